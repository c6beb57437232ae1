"""What a session remembers: its last events within a bound, and every artifact."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.client.events import TaskEvent

#: Events, and bytes of them, that a session keeps.
KEPT_EVENTS = 256
KEPT_BYTES = 4 * 1024 * 1024


class History:
    """Keep events under the numbers in which they were shown, from 0; the oldest go first.

    The lock of its session guards it.
    """

    def __init__(self) -> None:
        self.artifacts: list[TaskEvent] = []
        self.terminal: TaskEvent | None = None
        self._kept: deque[TaskEvent] = deque()
        self._first = 0
        self._weight = 0

    @property
    def end(self) -> int:
        """The number that the next event gets."""
        return self._first + len(self._kept)

    def add(self, events: Sequence[TaskEvent]) -> None:
        """Remember events."""
        for event in events:
            self._kept.append(event)
            self._weight += event.weight()
            if event.type == "artifact":
                self.artifacts.append(event)
            elif event.type == "terminal":
                self.terminal = event
        while len(self._kept) > KEPT_EVENTS or (self._weight > KEPT_BYTES and len(self._kept) > 1):
            self._weight -= self._kept.popleft().weight()
            self._first += 1

    def events(self) -> list[TaskEvent]:
        """Return what is kept."""
        return list(self._kept)

    def since(self, number: int) -> tuple[int, list[TaskEvent]]:
        """Return how many events from `number` on are lost, and those that are kept."""
        lost = max(0, self._first - number)
        return lost, list(self._kept)[max(0, number - self._first) :]
