"""Shelves and timetokens, without a network."""

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.concurrency import Clock
from blocks_worker.hub.network.channels import CHANNEL, OVERHEAD, Bounds, Message, Shelf, Timeline

WIDE = Bounds(limit=1000, age=1e9, size=1 << 40)


def message(tt: int, channel: str = "a", at: float | None = None, payload: bytes = b"1") -> Message:
    """Return a message; its moment is its timetoken unless said otherwise."""
    return Message(tt, channel, payload, float(tt) if at is None else at)


def newest(shelf: Shelf, channel: str = "a", horizon: float = 0.0) -> list[int]:
    """Return the timetokens of a channel, the newest first."""
    return [each.tt for each in shelf.newest_first(channel, horizon)]


class SteppingClock(Clock):
    """Be a clock that shows given times."""

    def __init__(self, times: list[int]) -> None:
        self.times = times

    def wall_ticks(self) -> int:
        """Return the next time."""
        return self.times.pop(0)


@given(st.lists(st.integers(min_value=0, max_value=10**18), min_size=1))
def test_timetokens_only_rise(times: list[int]) -> None:
    """Whatever the clock shows, each timetoken is above the last."""
    timeline = Timeline(SteppingClock(list(times)))

    drawn = [timeline.draw() for _ in times]

    assert all(low < high for low, high in pairwise(drawn))


def test_limit_and_age_of_a_channel() -> None:
    """A channel keeps its newest messages, and none beyond the age."""
    shelf = Shelf()
    for tt in range(1, 11):
        shelf.put(message(tt), Bounds(limit=4, age=2.0, size=1 << 30))

    assert newest(shelf) == [10, 9, 8]
    assert newest(shelf, horizon=9.0) == [10, 9]


def test_full_shelf_drops_what_rested_longest() -> None:
    """When the bytes run out, the channel written longest ago loses its oldest messages first."""
    shelf = Shelf()
    bounds = Bounds(limit=100, age=1e9, size=2 * CHANNEL + 3 * (OVERHEAD + 1))
    for tt, channel in enumerate(["old", "old", "busy", "busy"], start=1):
        shelf.put(message(tt, channel), bounds)

    assert newest(shelf, "old") == [2]
    assert newest(shelf, "busy") == [4, 3]


def test_many_channels_of_one_message_stay_within_the_bytes() -> None:
    """What the interpreter has for thousands of short channels is no more than the shelf counts, and bounded so."""
    rested = [message(tt, f"task.{tt:032}", payload=b"x" * 200) for tt in range(1, 3001)]
    shelf, bounds = Shelf(), Bounds(limit=100, age=1e9, size=2000 * (CHANNEL + OVERHEAD + 200))
    tracemalloc.start()
    for each in rested:
        shelf.put(each, bounds)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert len(list(shelf.channels())) == 2000
    assert taken <= 2000 * CHANNEL


def test_message_above_the_bound_leaves_the_shelf_empty() -> None:
    """One that does not fit alone is not kept, and nothing breaks."""
    shelf = Shelf()
    shelf.put(message(1, payload=b"x" * 1000), Bounds(limit=9, age=9, size=1000))

    assert newest(shelf) == []
    assert list(shelf.channels()) == []


def test_expiry_forgets_whole_channels() -> None:
    """Channels whose newest message is too old go, the others stay."""
    shelf = Shelf()
    for tt, channel in ((1, "a"), (2, "b"), (3, "a")):
        shelf.put(message(tt, channel), WIDE)
    shelf.expire(now=10.0, age=7.5)

    assert list(shelf.channels()) == ["a"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=60), st.integers(0, 60), st.integers(0, 60)
)
def test_size_is_the_sum_of_what_is_kept(puts: list[tuple[str, int]], above: int, until: int) -> None:
    """However messages come and go, the shelf knows its size."""
    shelf = Shelf()
    bounds = Bounds(limit=5, age=20.0, size=3 * CHANNEL + 12 * OVERHEAD)
    for tt, (channel, length) in enumerate(puts, start=1):
        shelf.put(message(tt, channel, payload=b"x" * length), bounds)
    shelf.remove("a", above, until)
    shelf.expire(float(len(puts)), 15.0)

    kept = [each for channel in shelf.channels() for each in shelf.newest_first(channel, 0.0)]

    names = list(shelf.channels())
    assert shelf._size == CHANNEL * len(names) + sum(each.size() for each in kept) <= bounds.size
    assert not any(above < each.tt <= until for each in kept if each.channel == "a")
