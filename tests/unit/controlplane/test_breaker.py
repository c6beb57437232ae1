"""When a hub that fails is left alone."""

from __future__ import annotations

import pytest
from support import FakeClock, SeededEntropy

from blocks_worker.controlplane.breaker import FAILURES, LEAST_PAUSE, LONGEST_PAUSE, Breaker


@pytest.fixture
def clock() -> FakeClock:
    """Be time."""
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    """Be a breaker that has just opened."""
    made = Breaker(clock, SeededEntropy())
    for _ in range(FAILURES):
        assert made.pause() == 0
        made.failed(is_probe=made.enter())
    return made


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    """After the last of them nobody goes for some time. [A14]"""
    assert breaker.is_open
    assert LEAST_PAUSE <= (breaker.pause() or 0) <= LONGEST_PAUSE


def test_an_answer_between_keeps_it_closed(clock: FakeClock) -> None:
    """Failures count in a row only. [A14]"""
    breaker = Breaker(clock, SeededEntropy())
    for _ in range(3 * FAILURES):
        breaker.failed(is_probe=breaker.enter())
        breaker.answered(is_probe=breaker.enter())

    assert breaker.pause() == 0


def test_one_probe_at_a_time(breaker: Breaker, clock: FakeClock) -> None:
    """When the pause is over one call goes, and no other until it has ended; its answer lets all go. [A14]"""
    clock.advance(LONGEST_PAUSE)
    assert breaker.pause() == 0
    probe = breaker.enter()
    waiting = breaker.pause()
    breaker.answered(is_probe=probe)

    assert (probe, waiting) == (True, None)
    assert (breaker.pause(), breaker.enter()) == (0, False)


def test_pauses_grow_and_differ(breaker: Breaker, clock: FakeClock) -> None:
    """Each probe that fails is followed by a longer pause, up to the longest, and never by the same. [A14]"""
    pauses = []
    for _ in range(20):
        pauses.append(breaker.pause() or 0)
        clock.advance(pauses[-1])
        breaker.failed(is_probe=breaker.enter())

    assert max(pauses[:2]) < 2 < max(pauses[5:]) <= LONGEST_PAUSE
    assert min(pauses) >= LEAST_PAUSE
    assert len(set(pauses)) > 10


def test_what_began_before_makes_it_no_worse(breaker: Breaker) -> None:
    """Calls that were under way when it opened fail too: the pause stays as it is; one that is answered ends it."""
    before = breaker.pause()
    for _ in range(20):
        breaker.failed(is_probe=False)
    assert breaker.pause() == before
    breaker.answered(is_probe=False)

    assert breaker.pause() == 0


def test_a_probe_that_was_interrupted_is_none(breaker: Breaker, clock: FakeClock) -> None:
    """Whoever leaves without an answer leaves the turn to the next one."""
    clock.advance(LONGEST_PAUSE)
    breaker.left(is_probe=breaker.enter())

    assert (breaker.pause(), breaker.enter()) == (0, True)
