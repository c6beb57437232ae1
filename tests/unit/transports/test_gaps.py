import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.transports.gaps import (
    PAGES,
    RUNS,
    SALVAGE_REQUESTS,
    SEEN_TICKS,
    TICKS,
    Search,
    Seen,
    Sequence,
    Window,
    halves,
    overflow_windows,
)


@given(st.lists(st.integers(1, 40), max_size=80))
def test_a_sequence_knows_each_number_once(numbers: list[int]) -> None:
    """A number is new exactly the first time, in whatever order they come, and holes are what is not there."""
    sequence, seen = Sequence(), set()
    for position, number in enumerate(numbers, 1):
        assert sequence.add(number, position) == (number not in seen)
        seen.add(number)

    inner = range(min(seen, default=1), max(seen, default=0) + 1)
    before_holes = [n for n in inner if n in seen and n + 1 in inner and n + 1 not in seen]
    assert [after for after, _, _ in sequence.holes()] == before_holes


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), max_size=30))
def test_messages_that_come_together_count_as_one_by_one(publishes: list[tuple[int, int]]) -> None:
    """Whatever came before, of a publish the same numbers are new, and the same holes are left, as of its messages."""
    together, alone = Seen(), Seen()
    for position, (first, count) in enumerate(publishes, 1):
        new = [number for number in range(first, first + count) if alone.message("c", "p", number, position)]

        assert list(together.messages("c", "p", first, count, position)) == new
    assert together.holes() == alone.holes()


def test_a_hole_tells_the_positions_around_it_until_it_closes() -> None:
    """Numbers 3 and 4 are missing between two positions, then late, then no more."""
    seen = Seen()
    for number, position in ((1, 10), (2, 20), (5, 50)):
        seen.message("c", "p", number, position)

    (hole,) = seen.holes()
    assert (hole.since, hole.until, hole.after) == (20, 50, 2)

    seen.message("c", "p", 4, 40)
    seen.message("c", "p", 3, 30)
    assert seen.holes() == []


def test_a_hole_that_is_given_up_stays_closed() -> None:
    """Numbers nobody has are not looked for again, and do not come later."""
    seen = Seen()
    seen.message("c", "p", 1, 10)
    seen.message("c", "p", 3, 30)

    seen.give_up(seen.holes()[0])

    assert seen.holes() == []
    assert not seen.message("c", "p", 2, 20)


def test_what_is_left_of_a_hole_is_within_it() -> None:
    """A hole that closes in part is known as the same."""
    seen = Seen()
    seen.message("c", "p", 1, 10)
    seen.message("c", "p", 4, 40)
    (whole,) = seen.holes()

    seen.message("c", "p", 2, 20)
    (rest,) = seen.holes()
    assert rest != whole
    assert rest.is_within(whole)


def test_a_hostile_sequence_stays_small() -> None:
    """A producer that leaves out every second number fills no memory."""
    sequence = Sequence()
    for number in range(1, 10_000, 2):
        sequence.add(number, number)

    assert len(sequence.starts) <= RUNS


def test_publishes_are_forgotten_by_number_and_by_age() -> None:
    """The memory of publishes is bounded both ways."""
    seen = Seen(publishes=3)
    for position in (1, 2, 3, 4):
        seen.publish("c", position)

    assert seen.publish("c", 1)
    assert not seen.publish("c", 4)

    seen = Seen()
    seen.publish("c", 1)
    seen.publish("c", SEEN_TICKS + 2)
    assert seen.publish("c", 1)


def test_publishes_of_several_channels_at_one_position_are_told_apart() -> None:
    """A position is no name of a publish by itself: other channels may have one there."""
    seen = Seen()

    first = [seen.publish(channel, 7) for channel in ("a", "b", "c")]
    again = [seen.publish(channel, 7) for channel in ("a", "b", "c")]

    assert (first, again) == ([True] * 3, [False] * 3)


def test_what_is_remembered_of_publishes_is_small() -> None:
    """However many publishes came, memory is kept for the last ones only, and 150 bytes for each at most."""
    seen = Seen(publishes=2_000)
    tracemalloc.start()
    try:
        for number in range(6_000):
            # Each publish comes with a name of its own from the reply that it was decoded from.
            seen.publish("".join(["agent.", "0" * 24, ".control"]), 17_000_000_000_000_000 + number)
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 150 * 2_000


def test_sequences_are_bounded_and_the_unused_goes_first() -> None:
    """The sequence that rested longest is forgotten, with its holes."""
    seen = Seen(sequences=2)
    seen.message("a", "p", 1, 1)
    seen.message("a", "p", 3, 3)
    seen.message("b", "p", 1, 1)
    seen.message("c", "p", 1, 1)

    assert seen.holes() == []
    assert not seen.message("b", "p", 1, 1)


def test_an_overflow_may_have_eaten_what_lies_before_the_first_of_each_channel() -> None:
    """A channel with messages lost only before them; one without may have lost up to the newest of all."""
    windows = overflow_windows(["a", "b"], 100, [("a", 150), ("a", 140), ("x", 160)])

    assert windows == [Window("a", 100, 139), Window("b", 100, 160)]


def test_an_overflow_without_messages_or_room_asks_for_nothing() -> None:
    """There is no window where nothing can lie."""
    assert overflow_windows(["a"], 100, []) == []
    assert overflow_windows(["a"], 100, [("a", 101)]) == []


@given(st.integers(0, 10**17), st.integers(2, 10**12))
def test_halves_are_the_whole(since: int, width: int) -> None:
    """Two halves meet and leave nothing out."""
    older, newer = halves(Window("c", since, since + width))

    assert (older.since, older.until, newer.until) == (since, newer.since, since + width)


@given(st.integers(1, 20 * TICKS), st.sets(st.integers(-20_000, 20_000), max_size=6))
def test_a_bad_row_costs_only_itself(bad: int, beside: set[int]) -> None:
    """In twenty seconds every good row is read, however near to the bad one, within the requests allowed."""
    good = {bad + distance for distance in beside if distance and 0 < bad + distance <= 20 * TICKS}
    search, read, requests = Search(Window("c", 0, 20 * TICKS)), set(), 0
    while (part := search.next()) is not None:
        requests += 1
        if part.since < bad <= part.until:
            search.unreadable(part)
        else:
            read |= {row for row in good if part.since < row <= part.until}

    assert read == good
    assert search.left() == 1
    assert requests <= SALVAGE_REQUESTS


def test_a_search_is_bounded_and_says_what_it_did_not_reach() -> None:
    """Neither rows that are all bad nor pages without end are read for ever."""
    search, requests = Search(Window("c", 0, 20 * TICKS)), 0
    while (part := search.next()) is not None:
        requests += 1
        search.unreadable(part)
    assert (requests, search.left() > 0) == (SALVAGE_REQUESTS, True)

    search, requests = Search(Window("c", 0, 20 * TICKS)), 0
    while (part := search.next()) is not None:
        requests += 1
        search.add(part)
    assert (requests, search.left(), search.salvaging) == (PAGES, 1, False)
