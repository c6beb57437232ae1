import pytest

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.transports.pubnub.health import LOST, Health
from blocks_worker.transports.pubnub.outcomes import Kind


class HandClock(Clock):
    """Be a clock that a test moves; the wall may run away from the monotonic one."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.now

    def wall_ms(self) -> int:
        """Return the unix time."""
        return int((self.now + self.ahead) * 1000)


@pytest.fixture
def clock() -> HandClock:
    """Give a clock to move."""
    return HandClock()


@pytest.fixture
def health(clock: HandClock) -> Health:
    """Give a health by that clock."""
    return Health(clock, Entropy())


def test_pauses_grow_and_stay_bounded(health: Health) -> None:
    """Tries go on without end, never more than half a minute apart."""
    pauses = [health.bad(Kind.UNREACHABLE) for _ in range(200)]

    assert all(0 <= pause <= 30 for pause in pauses)
    assert pauses[0] <= 0.2
    assert max(pauses) > 5


@pytest.mark.parametrize(("kind", "low", "high"), [(Kind.DENIED, 20, 40), (Kind.THROTTLED, 1, 60)])
def test_a_refusal_and_a_quota_ask_for_their_own_pause(health: Health, kind: Kind, low: float, high: float) -> None:
    """The network remembers a refusal for a while; a quota asks for a second at least."""
    assert all(low <= health.bad(kind) <= high for _ in range(50))


def test_a_good_poll_ends_all_counts(health: Health) -> None:
    """What is counted in a row starts anew, and the recovery is told once."""
    for _ in range(3):
        health.bad(Kind.TIMEOUT)
    assert (health.timeouts, health.link_lost) == (3, True)

    assert health.good()
    assert not health.good()
    assert (health.timeouts, health.failures, health.link_lost) == (0, 0, False)


def test_another_kind_ends_a_row(health: Health) -> None:
    """Three timeouts in a row are something else than three timeouts."""
    for kind in (Kind.TIMEOUT, Kind.TIMEOUT, Kind.BROKEN, Kind.TIMEOUT):
        health.bad(kind)

    assert health.timeouts == 1


def test_nobody_there_for_long_is_told_once(health: Health, clock: HandClock) -> None:
    """After half a minute the owner hears of it, not again at every try."""
    health.bad(Kind.UNREACHABLE)
    assert not health.lost()
    clock.now += LOST + 1
    health.bad(Kind.UNREACHABLE)
    assert health.lost()
    assert not health.lost()


def test_a_sleep_of_the_machine_is_seen_by_the_two_clocks(health: Health, clock: HandClock) -> None:
    """The wall went on while the monotonic clock stood."""
    clock.now += 600
    assert not health.slept()
    clock.ahead += 90
    assert health.slept()
    assert not health.slept()
    assert health.age() == pytest.approx(690)
