"""What a session remembers: its last events within a bound, and every artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.client.callbacks import PASSING, kinds_of
from blocks_worker.protocol.lifecycle import ANSWERED, QUESTION_CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.client.events import TaskEvent

#: Events, and bytes of them, that a session keeps.
KEPT_EVENTS = 256
KEPT_BYTES = 4 * 1024 * 1024


class History:
    """Keep events under the numbers in which they were shown, from 0; the oldest go first.

    The lock of its session guards it. One that joined its task later does not tell of progress again.
    """

    def __init__(self, *, joined: bool = False) -> None:
        self._joined = joined
        self.artifacts: list[TaskEvent] = []
        self.terminal: TaskEvent | None = None
        #: The last question, and the names of those that are open no more: that may be heard first.
        self.asked: TaskEvent | None = None
        self.closed: set[str | None] = set()
        #: A list, for an empty deque holds 600 bytes, and most histories are short.
        self._kept: list[TaskEvent] = []
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
            elif event.type in {"question", "cancel_requested"}:
                self.asked = event if event.type == "question" else None
            elif event.type == "system" and event.status in {ANSWERED, QUESTION_CLOSED}:
                self.closed.add(event.id)
        while len(self._kept) > KEPT_EVENTS or (self._weight > KEPT_BYTES and len(self._kept) > 1):
            self._weight -= self._kept.pop(0).weight()
            self._first += 1

    @property
    def question(self) -> TaskEvent | None:
        """The question that is open."""
        return None if self.asked is None or self.asked.id in self.closed else self.asked

    def events(self) -> list[TaskEvent]:
        """Return what is kept."""
        return list(self._kept)

    def earlier(self, kind: str) -> list[TaskEvent]:
        """Return what a callback that is registered now is told of."""
        if kind == "onArtifact":
            return list(self.artifacts)
        if kind == "onTerminal":
            return [self.terminal] if self.terminal is not None else []
        if kind == "onQuestion":
            return [self.question] if self.question is not None else []
        told = [event for event in self._kept if kind in kinds_of(event)]
        return [event for event in told if event.type not in PASSING] if self._joined else told

    def since(self, number: int) -> tuple[int, list[TaskEvent]]:
        """Return how many events from `number` on are lost, and those that are kept."""
        lost = max(0, self._first - number)
        return lost, list(self._kept)[max(0, number - self._first) :]
