"""The pure book of presence: joins, renewals, leaving, running out, states."""

from blocks_worker.hub.network.presence import Happening, Presence


def test_only_the_first_arrival_is_a_join() -> None:
    """Who is there already only renews."""
    book = Presence()

    first = book.arrive("u", ["a", "b"], until=10)
    again = book.arrive("u", ["a", "b"], until=20)

    assert first == [Happening("a", "join", "u", 1), Happening("b", "join", "u", 1)]
    assert again == []


def test_running_out_and_renewal() -> None:
    """A presence ends at its time, a renewed one later."""
    book = Presence()
    book.arrive("u", ["a"], until=10)
    book.arrive("v", ["a"], until=10)
    book.arrive("v", ["a"], until=20)

    assert book.expire(9) == []
    assert book.expire(10) == [Happening("a", "timeout", "u", 1)]
    assert book.expire(20) == [Happening("a", "timeout", "v", 0)]
    assert book.channels() == []


def test_leaving_counts_once() -> None:
    """Leaving what one is not on is nothing; afterwards arriving is a join again."""
    book = Presence()
    book.arrive("u", ["a"], until=10)

    assert book.leave("u", ["a", "b"]) == [Happening("a", "leave", "u", 0)]
    assert book.leave("u", ["a"]) == []
    assert book.where("u") == []
    assert len(book.arrive("u", ["a"], until=10)) == 1


def test_state_comes_with_the_join() -> None:
    """A state set before or with the arrival is part of the join, and a change tells how many are there."""
    book = Presence()

    assert book.set_state("u", ["a"], {"x": 1}, until=10) == [Happening("a", "state-change", "u", 0, {"x": 1})]
    assert book.here("a") == []
    assert book.arrive("u", ["a"], until=20) == [Happening("a", "join", "u", 1, {"x": 1})]
    assert book.arrive("v", ["a"], until=20, states={"a": {"y": 2}}) == [Happening("a", "join", "v", 2, {"y": 2})]
    assert book.here("a") == [("u", {"x": 1}), ("v", {"y": 2})]


def test_state_of_the_absent_is_forgotten() -> None:
    """A state of somebody who never came runs out without an event."""
    book = Presence()
    book.set_state("u", ["a"], {"x": 1}, until=10)

    assert book.expire(11) == []
    assert book.state("u", "a") == {}


def test_event_as_published() -> None:
    """Timestamp and occupancy are whole numbers and always there, data only when there is some. [2.14]"""
    assert Happening("a", "join", "u", 1).event(5) == {"action": "join", "timestamp": 5, "uuid": "u", "occupancy": 1}
    assert Happening("a", "state-change", "u", 1, {}).event(5)["data"] == {}
