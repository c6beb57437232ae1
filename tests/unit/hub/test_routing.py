from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.hub.routing import choose
from blocks_worker.hub.store.records import Candidate

candidates = st.lists(
    st.builds(Candidate, st.just("a"), st.text("abcdef", min_size=1), st.just("free"), st.integers(-2, 3))
)


def one(name: str, free: int) -> Candidate:
    """Return a candidate."""
    return Candidate(name, name, "free", free)


def test_nobody_has_room() -> None:
    """Without room there is no choice."""
    assert choose([one("a", 0), one("b", -1)], last_offered={}) is None


def test_most_room_first() -> None:
    """The one with most free slots gets the task."""
    assert choose([one("a", 1), one("b", 2)], last_offered={"b": 9}) == one("b", 2)


def test_then_who_waits_longest() -> None:
    """Among equals the one whose last offer is oldest gets the task."""
    assert choose([one("a", 1), one("b", 1), one("c", 1)], last_offered={"a": 2, "b": 1, "c": 3}) == one("b", 1)


def test_who_refused_is_left_out() -> None:
    """An incarnation that has just refused gets nothing."""
    assert choose([one("a", 5), one("b", 1)], last_offered={}, cooling={"a"}) == one("b", 1)


@given(candidates)
def test_the_choice_has_room_and_nobody_has_more(found: list[Candidate]) -> None:
    """Whoever is chosen has room, and nobody has more of it."""
    chosen = choose(found, last_offered={})
    most = max((each.free for each in found), default=0)

    assert (chosen is None) is (most <= 0)
    assert chosen is None or chosen.free == most
