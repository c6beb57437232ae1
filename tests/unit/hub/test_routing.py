from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.hub.routing import Line
from blocks_worker.hub.store.records import Candidate


def one(name: str, free: int) -> Candidate:
    """Return a candidate."""
    return Candidate(name, name, "free", free)


def test_nobody_has_room() -> None:
    """Without anybody there is no choice, and none once all room is taken."""
    assert Line([], {}).first is None
    line = Line([one("a", 1)], {})
    line.offered(1, taken=True)
    assert line.first is None


def test_most_room_first() -> None:
    """The one with most free slots gets the task."""
    assert Line([one("a", 1), one("b", 2)], {"b": 9}).first == one("b", 2)


def test_then_who_waits_longest() -> None:
    """Among equals the one whose last offer is oldest gets the task."""
    assert Line([one("a", 1), one("b", 1), one("c", 1)], {"a": 2, "b": 1, "c": 3}).first == one("b", 1)


def test_who_did_not_get_it_keeps_his_room() -> None:
    """An offer that could not be made takes no slot, but its turn."""
    line = Line([one("a", 1), one("b", 1)], {})
    line.offered(1, taken=False)
    assert line.first == one("b", 1)
    line.offered(2, taken=True)
    assert line.first == one("a", 1)


@given(st.lists(st.integers(1, 4), max_size=8), st.integers(0, 40))
def test_each_gets_as_much_as_the_others_and_no_more_than_fits(room: list[int], tasks: int) -> None:
    """Whoever is first has room, and nobody has more of it; all room is given away."""
    line = Line([one(str(place), free) for place, free in enumerate(room)], {})
    left = list(room)
    for number in range(1, tasks + 1):
        to = line.first
        assert (to is None) is (sum(left) == 0)
        if to is None:
            return
        assert left[int(to.incarnation)] == max(left)
        left[int(to.incarnation)] -= 1
        line.offered(number, taken=True)
