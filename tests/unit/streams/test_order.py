"""In which order frames are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.protocol.streams import MAX_MISSING, Frame
from blocks_worker.streams.order import ASK_AFTER, ASK_AGAIN, MAX_HELD, Order, Skipped


def frame(seq: int, kind: str = "stream_events") -> Frame:
    """Return a frame with this number."""
    return Frame(type=kind, stream_id="s", sender="w", seq=seq, events=[seq])  # type: ignore[arg-type]


def seqs(shown: list[Frame | Skipped]) -> list[int | tuple[int, int]]:
    """Return the numbers of what is shown; a pair for what was given up."""
    return [(each.first, each.last) if isinstance(each, Skipped) else each.seq for each in shown]


@given(st.permutations(list(range(12))), st.lists(st.integers(0, 11), max_size=6))
def test_any_order_is_shown_as_one(order: list[int], twice: list[int]) -> None:
    """Frames are shown by number, each once, however they come [R-45]."""
    kept = Order(first=0, patience=1.0)

    shown = [seq for number in [*order[:6], *twice, *order[6:]] for seq in seqs(kept.offer(frame(number), 0.0))]
    assert shown == list(range(12))


def test_a_hole_is_waited_for_and_then_told() -> None:
    """What does not come in time is skipped, and said to be."""
    order = Order(first=0, patience=0.75)

    assert seqs(order.offer(frame(0), 10.0)) == [0]
    assert seqs(order.offer(frame(3), 10.0)) == []
    assert seqs(order.ready(10.7)) == []
    assert seqs(order.ready(10.8)) == [(1, 2), 3]
    assert seqs(order.offer(frame(1), 11.0)) == []


def test_without_patience_frames_are_shown_as_they_come() -> None:
    """With 0 nothing is waited for, not even after an outage."""
    order = Order(first=0, patience=0.0)
    order.disturbed(99.0)

    assert seqs(order.offer(frame(2), 1.0)) == [(0, 1), 2]


def test_nothing_counts_as_lost_while_the_network_is_away() -> None:
    """A hole is not given up before the outage is over for some time."""
    order = Order(first=0, patience=0.75)
    order.offer(frame(1), 10.0)
    order.disturbed(float("inf"))

    assert seqs(order.ready(1_000.0)) == []
    order.disturbed(1_015.0)
    assert seqs(order.ready(1_014.0)) == []
    assert seqs(order.ready(1_016.0)) == [(0, 0), 1]


def test_what_is_missing_is_asked_for_now_and_then() -> None:
    """Not at once, for it may be on its way; then again and again."""
    order = Order(first=0, patience=9.0)
    order.offer(frame(2), 1.0)
    order.offer(frame(5), 1.0)

    assert order.missing(1.0) == []
    assert order.due() == 1.0 + ASK_AFTER
    assert order.missing(1.2) == [(0, 1), (3, 4)]
    assert order.missing(1.3) == []
    assert order.missing(1.2 + ASK_AGAIN) == [(0, 1), (3, 4)]


def test_no_word_asks_for_too_many_ranges() -> None:
    """The first holes are asked for first."""
    order = Order(first=0, patience=9.0)
    for seq in range(1, 2 * MAX_MISSING + 20, 2):
        order.offer(frame(seq), 1.0)

    assert len(order.missing(2.0)) == MAX_MISSING


def test_an_end_that_is_known_shows_what_is_missing_before_it() -> None:
    """The end may come first; it is reached when all before it was shown."""
    order = Order(first=0, patience=0.5)
    order.offer(frame(0), 1.0)
    order.ends_at(3)

    assert seqs(order.ready(1.0)) == []
    assert order.missing(1.2) == [(1, 2)]
    assert not order.is_ended
    assert seqs(order.ready(2.0)) == [(1, 2)]
    assert order.is_ended


def test_the_first_word_about_the_end_counts() -> None:
    """Data behind the end are dropped, and a second end changes nothing."""
    order = Order(first=0, patience=0.5)
    order.offer(frame(1, "stream_end"), 1.0)
    order.ends_at(9)

    assert order.end == 1
    assert seqs(order.offer(frame(4), 1.0)) == []
    assert seqs(order.offer(frame(0), 1.0)) == [0]
    assert order.is_ended


def test_the_first_frame_may_be_any() -> None:
    """Who was not told where to begin begins with what comes."""
    order = Order(first=None, patience=0.5)

    assert seqs(order.offer(frame(40), 1.0)) == [40]
    assert order.next == 41


def test_only_so_many_frames_wait_behind_a_hole() -> None:
    """One more, and the hole is given up at once."""
    order = Order(first=0, patience=100.0)

    shown = [each for seq in range(1, MAX_HELD + 2) for each in seqs(order.offer(frame(seq), 1.0))]
    assert shown == [(0, 0), *range(1, MAX_HELD + 2)]
