"""Read a session's events one after another, however slow the reader: what is kept no more, the hub still has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.client.events import TaskEvent
from blocks_worker.errors import BlocksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Reading:
    """Yield the events of one task from the first to the terminal one, for one reader.

    Args:
        task_id: whose events they are.
        following: returns how many events from a number on are kept no more, and those that are; waits for one, at
            most as many seconds as it is told; None when the session was closed.
        stored: returns what the hub has after a sequence number.
    """

    def __init__(
        self,
        task_id: str,
        *,
        following: Callable[[int, float | None], tuple[int, list[TaskEvent]] | None],
        stored: Callable[[int], Iterable[TaskEvent]],
    ) -> None:
        self._task_id = task_id
        self._following = following
        self._stored = stored
        self._after = 0
        # The hub's own events may be shown before worker's events that were stored earlier.
        self._ahead: set[int] = set()

    def __iter__(self) -> Iterator[TaskEvent]:
        return (event for event in self.paced(None) if event is not None)

    def paced(self, interval: float | None) -> Iterator[TaskEvent | None]:
        """Yield the events, and None whenever none came for `interval` seconds."""
        position = 0
        while True:
            found = self._following(position, interval)
            if found is None:
                return
            lost, events = found
            if not lost and not events:
                yield None
            position += lost + len(events)
            if lost:
                yield from self._missed(lost, events)
            for event in events:
                yield self._noted(event)
            if events and events[-1].type == "terminal":
                return

    def _missed(self, lost: int, following: Sequence[TaskEvent]) -> Iterator[TaskEvent]:
        """Yield what the hub has of the events between; say how many it has not: those were never stored."""
        kept = {event.seq for event in following if event.seq is not None} | self._ahead
        end = max((event.seq for event in following if event.seq is not None), default=0)
        try:
            for event in self._stored(self._after):
                seq = event.seq or 0
                if seq >= end:
                    break
                if seq not in kept:
                    lost -= 1
                    yield self._noted(event)
        except (BlocksError, RuntimeError) as error:  # the second: the client was destroyed
            yield self._warning(f"{lost} events are no longer kept here, and the hub cannot be asked: {error}")
            return
        if lost > 0:
            yield self._warning(f"{lost} events are no longer kept")

    def _noted(self, event: TaskEvent) -> TaskEvent:
        if event.seq is None:
            return event
        if event.n is None:
            self._ahead.add(event.seq)
        elif event.seq > self._after:
            self._after = event.seq
            self._ahead = {seq for seq in self._ahead if seq > event.seq}
        return event

    def _warning(self, message: str) -> TaskEvent:
        return TaskEvent.of(
            {"type": "system", "taskId": self._task_id, "epoch": 0, "status": "warning", "message": message}
        )
