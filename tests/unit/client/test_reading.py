"""A reader of a session, fed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.history import KEPT_EVENTS, History
from blocks_worker.client.reading import Reading
from blocks_worker.errors import HubUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


def event(seq: int, n: int | None = None, kind: str = "progress", **fields: Any) -> TaskEvent:
    """Return an event as the ledger has it."""
    raw = {"type": kind, "taskId": "t", "epoch": 1, "seq": seq, **fields}
    return TaskEvent.of(raw if n is None else {**raw, "n": n})


class Source:
    """Be a session's history and the hub's ledger."""

    def __init__(self, shown: list[TaskEvent], stored: list[TaskEvent]) -> None:
        self.history = History()
        self.history.add(shown)
        self.ledger = stored
        self.asked: list[int] = []

    def following(self, position: int, _patience: float | None) -> tuple[int, list[TaskEvent]] | None:
        """Return what is kept; a session that is over and read to its end has no more."""
        found = self.history.since(position)
        return found if any(found) else None

    def stored(self, after: int) -> Iterator[TaskEvent]:
        """Return what the ledger has."""
        self.asked.append(after)
        return iter([one for one in self.ledger if (one.seq or 0) > after])

    def reading(self) -> Reading:
        """Return a reader."""
        return Reading("t", following=self.following, stored=self.stored)


LONG = [event(seq, seq) for seq in range(1, 2 * KEPT_EVENTS)]
END = event(2 * KEPT_EVENTS, kind="terminal", state="completed")


def test_a_quick_reader_asks_nobody() -> None:
    """What is kept comes from the session."""
    source = Source([*LONG[:3], END], [])

    assert list(source.reading()) == [*LONG[:3], END]
    assert source.asked == []


def test_a_late_reader_gets_all() -> None:
    """Events beyond what a session keeps come from the ledger, each once, in order."""
    source = Source([*LONG, END], [*LONG, END])

    assert list(source.reading()) == [*LONG, END]
    assert source.asked == [0]


def test_a_reader_falls_behind() -> None:
    """A reader who stopped in the middle goes on where it stopped."""
    source = Source(LONG[:10], [*LONG, END])
    reader = iter(source.reading())
    first = [next(reader) for _ in range(10)]
    source.history.add([*LONG[10:], END])

    assert [*first, *reader] == [*LONG, END]
    assert source.asked == [10]


def test_an_event_of_the_hub_that_was_shown_early_comes_once() -> None:
    """A hub's event that stood before older events of the worker is neither repeated nor lost."""
    asked = event(5, kind="cancel_requested")
    late = [event(seq, seq - 1 if seq > 5 else seq) for seq in (3, 4, *range(6, 2 * KEPT_EVENTS))]
    source = Source([event(1, 1), event(2, 2), asked], [event(1, 1), event(2, 2), *late[:2], asked, *late[2:], END])
    reader = iter(source.reading())
    first = [next(reader) for _ in range(3)]
    source.history.add([*late, END])

    assert [*first, *reader] == [event(1, 1), event(2, 2), asked, *late, END]


def test_what_nobody_has_is_told() -> None:
    """Events that the ledger has no more are counted in a warning."""
    source = Source([*LONG, END], [*LONG[100:], END])
    warning, *rest = list(source.reading())[len(LONG) - KEPT_EVENTS + 1 - 100 :]

    assert (warning.status, warning.message) == ("warning", "100 events are no longer kept")
    assert rest == [*LONG[-KEPT_EVENTS + 1 :], END]


def test_a_hub_that_cannot_be_asked() -> None:
    """Without the hub the reader goes on with what is kept, and is told."""

    def stored(_after: int) -> Iterator[TaskEvent]:
        raise HubUnavailableError("http://127.0.0.1:1", "gone")

    source = Source([*LONG, END], [])
    warning, *rest = Reading("t", following=source.following, stored=stored)

    assert "cannot be asked" in str(warning.message)
    assert rest == [*LONG[-KEPT_EVENTS + 1 :], END]
