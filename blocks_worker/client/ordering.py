"""Which event a session shows next, when it has to ask the hub, and when it is over: no I/O, no clock.

Events come from the network, where they may be lost, repeated and out of order, and from the hub's ledger,
which has them all. Whatever comes is fed in; out comes what to show, in order, once. A run of the task is
named by its epoch, which only grows; an event of an older epoch is never shown after one of a newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.client.events import TaskEvent
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.protocol.tasks import TaskRow

#: Seconds without a word of the task after which the hub is asked.
SESSION_POLL = 10.0
#: Seconds that a hole may stand before the hub is asked; longer after each time that it could not fill it.
GAP_TIMEOUT = 0.5
#: Seconds after which a terminal event is shown although something before it is missing.
GAP_REPAIR_TIMEOUT = 5.0
#: Events kept behind a hole; what comes beyond is had from the ledger again.
MAX_BUFFERED = 1024

_KNOWN = frozenset({"progress", "artifact", "system", "question", "cancel_requested"})


class SessionOrder:
    """Put the events of one task in order. Every `now` is seconds of one monotonic clock."""

    def __init__(self, task_id: str, now: float, *, poll: float = SESSION_POLL) -> None:
        self.task_id = task_id
        self.finished = False
        #: Events that were not shown, because their type is unknown or they came too late.
        self.dropped = 0
        self._poll = poll
        self._epoch = 0
        self._next_n = 1
        self._released_seq = 0
        self._hub_seq = 0
        self._scanned_seq = 0
        self._cancel_shown = False
        # Words of the hub itself in this epoch: those that came, and those that its end names and that did not.
        self._heard: set[int] = set()
        self._unheard: list[int] = []
        self._buffer: dict[int, TaskEvent] = {}
        self._terminal: TaskEvent | None = None
        self._give_up_at = float("inf")
        self._has_hole = False
        self._tries = 0
        self._doubt = False
        # The run of this epoch is a newer one, and the reader was not told yet: a terminal event alone does
        # not tell, since a task that nobody held ends in an epoch in which nothing ran.
        self._is_news = False
        self._ask_at = now + poll

    @property
    def cursor(self) -> int:
        """The sequence number after which the ledger is to be read."""
        place = max(self._released_seq, self._scanned_seq)
        return min(place, self._unheard[0] - 1) if self._unheard else place

    def due(self) -> float | None:
        """Return when `tick` is to be called next; None when the session is over."""
        return None if self.finished else min(self._ask_at, self._give_up_at)

    def feed(self, event: TaskEvent, now: float) -> list[TaskEvent]:
        """Take one event from anywhere; return what is to be shown now."""
        if self.finished or event.task_id != self.task_id:
            return []
        shown = self._sorted_in(event, now)
        if self._terminal is None:
            self._plan(now)
        else:
            shown += self._ending()
        return shown

    def feed_ledger(
        self, row: TaskRow, events: Sequence[TaskEvent], now: float, *, after: int, more: bool = False
    ) -> list[TaskEvent]:
        """Take one page of the ledger, read after what `cursor` was, `after`; `more`: there are further pages."""
        named = self._unheard
        shown = [event for fed in events for event in self.feed(fed, now)]
        last = max((event.seq or 0 for event in events), default=after)
        self._scanned_seq = max(self._scanned_seq, last)
        if named:
            # What the ledger does not have where it should be is not waited for.
            self._unheard = [seq for seq in self._unheard if seq <= after or (more and seq > last)]
            shown += self._ending()
        if self.finished:
            return shown
        if more:
            self._ask_at = now
        elif row.state in SHOWN_TERMINAL and self._terminal is None:
            shown += self.feed(_terminal_of(row), now)
        return shown

    def tick(self, now: float) -> list[TaskEvent]:
        """Return the terminal event when it waited long enough for what is missing before it."""
        if self.finished or self._terminal is None or now < self._give_up_at:
            return []
        found = [self._buffer[n] for n in sorted(self._buffer)]
        self._buffer.clear()
        self.finished = True
        return [*found, self._terminal.with_gap()]

    def wants_ledger(self, now: float) -> bool:
        """Tell whether the hub is to be asked now."""
        return not self.finished and now >= self._ask_at

    def ask_now(self, now: float) -> None:
        """Have the hub asked at the next turn: the network may have lost something."""
        self._doubt = True
        self._ask_at = min(self._ask_at, now)

    def asked(self, now: float) -> None:
        """Say that the hub was asked; the next time follows from what is missing."""
        self._doubt = False
        if self._has_hole or self._terminal is not None:
            self._ask_at = now + min(self._poll, GAP_TIMEOUT * 2**self._tries)
            self._tries = min(self._tries + 1, 10)
        else:
            self._ask_at = now + self._poll

    def _sorted_in(self, event: TaskEvent, now: float) -> list[TaskEvent]:
        if event.epoch < self._epoch:
            self.dropped += 1
            return []
        if event.type == "terminal":
            self._take_terminal(event, now)
            return []
        if event.type not in _KNOWN or (self._terminal is not None and event.epoch > self._epoch):
            self.dropped += 1
            return []
        if event.n is not None:
            return self._durable(event, event.n)
        return self._of_hub(event, event.seq) if event.seq is not None else self._ephemeral(event)

    def _durable(self, event: TaskEvent, n: int) -> list[TaskEvent]:
        shown = self._announced(event.epoch)
        if n < self._next_n or n in self._buffer or len(self._buffer) >= MAX_BUFFERED:
            self.dropped += 1
            return shown
        self._buffer[n] = event
        return shown + self._release()

    def _announced(self, epoch: int) -> list[TaskEvent]:
        """Go over to a run if it is newer; say so, once, when an older one was seen."""
        if epoch > self._epoch:
            self._begin(epoch)
        if not self._is_news:
            return []
        self._is_news = False
        return [TaskEvent.of({"type": "system", "taskId": self.task_id, "epoch": epoch, "status": "restarted"})]

    def _begin(self, epoch: int) -> None:
        self._is_news = self._epoch > 0
        self._epoch = epoch
        self._next_n = 1
        self._heard.clear()
        self._buffer.clear()
        self._tries = 0

    def _release(self) -> list[TaskEvent]:
        released = []
        while self._next_n in self._buffer:
            event = self._buffer.pop(self._next_n)
            self._released_seq = max(self._released_seq, event.seq or 0)
            self._next_n += 1
            released.append(event)
        return released

    def _of_hub(self, event: TaskEvent, seq: int) -> list[TaskEvent]:
        if seq in self._heard:
            return []
        shown = self._word(event, is_late=seq < self._hub_seq)
        self._heard.add(seq)
        self._unheard = [each for each in self._unheard if each != seq]
        self._hub_seq = max(self._hub_seq, seq)
        return shown

    def _word(self, event: TaskEvent, *, is_late: bool) -> list[TaskEvent]:
        """Return what a word of the hub itself has shown; `is_late`: a newer one was, which it would now undo."""
        if is_late and event.type != "cancel_requested":
            return []
        if event.status == "restarted":
            if event.epoch > self._epoch:
                self._begin(event.epoch)
            elif not self._is_news:
                return []
            self._is_news = False
            return [event]
        if event.type == "cancel_requested":
            if self._cancel_shown:
                return []
            self._cancel_shown = True
        # It may be the first word of a newer run: nothing of an older one may be shown after it.
        return [*self._announced(event.epoch), event]

    def _ephemeral(self, event: TaskEvent) -> list[TaskEvent]:
        if event.epoch == self._epoch and self._terminal is None:
            return [event]
        self.dropped += 1
        return []

    def _take_terminal(self, event: TaskEvent, now: float) -> None:
        if self._terminal is not None:
            return
        if event.epoch > self._epoch:
            self._begin(event.epoch)
        self._terminal = event
        self._unheard = sorted({*(event.hub_seqs or ())} - self._heard)
        self._give_up_at = now + GAP_REPAIR_TIMEOUT
        self._ask_at = now
        self._tries = 0

    def _ending(self) -> list[TaskEvent]:
        """Return the terminal event once everything before it was shown."""
        if self.finished or self._terminal is None or self._unheard:
            return []
        if self._next_n <= (self._terminal.last_n or 0):
            return []
        self._buffer.clear()
        self.finished = True
        return [self._terminal]

    def _plan(self, now: float) -> None:
        """Set when the hub is asked next: soon when there is a hole, else after silence."""
        if self._doubt:
            return
        if not self._buffer:
            self._has_hole = False
            self._tries = 0
            self._ask_at = now + self._poll
        elif not self._has_hole:
            self._has_hole = True
            self._ask_at = min(self._ask_at, now + GAP_TIMEOUT)


def _terminal_of(row: TaskRow) -> TaskEvent:
    """Return the terminal event that a row tells of, where the ledger has none any more."""
    fields = {
        "type": "terminal",
        "taskId": row.task_id,
        "epoch": max(row.epoch, 1),
        "state": row.state,
        "error": row.error,
        "errorCode": row.error_code,
        "reason": row.reason,
        "completionReason": row.completion_reason,
        "lastN": row.last_n,
        "ts": row.ended_time,
    }
    return TaskEvent.of({name: value for name, value in fields.items() if value is not None})
