"""What one run has to say and the hub has not yet answered: numbered, in order, with its ending last.

Pure: now is passed in, nothing is sent here, and whoever holds it guards it with one lock.
"""

from __future__ import annotations

import hashlib
from collections import deque
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.errors import EventQuotaError, MessageTooLargeError, TaskFinishedError
from blocks_worker.protocol.codec import encode, fitting
from blocks_worker.protocol.events import MAX_EVENT, EventBody
from blocks_worker.protocol.leases import MAX_ERROR, Outcome, Report, ReportEvent
from blocks_worker.protocol.tasks import MAX_REASON
from blocks_worker.worker.step_box import StepBox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.protocol.steps import Step
    from blocks_worker.worker.run import Ending, RunKey

#: What may wait for the hub's answer before who emits has to wait.
BUFFER_EVENTS = 256
BUFFER_BYTES = 4 * 1024 * 1024
#: Events of one report; the rest is the next report.
REPORT_EVENTS = 256
#: Seconds between two texts of a status.
STATUS_INTERVAL = 1.0
#: Seconds in which the first events of a run wait for its outcome, so that a short task is one report.
HOLD = 0.02


class Outbox:
    """Number the events of one run, keep them and its steps until they were answered, and end once."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.lease = ""
        self._steps: StepBox | None = None
        #: Nothing more is said, and nobody waits any more.
        self._is_shut = False
        self._events: deque[tuple[int, bytes]] = deque()
        self._size = 0
        #: Bytes of all that was ever said.
        self._said = 0
        self._last_n = 0
        self._outcome: Outcome | None = None
        self._release = False
        self._ask_closed: str | None = None
        self._waiting: EventBody | None = None
        self._status_at = float("-inf")
        self._hold_until = 0.0
        self._not_before = 0.0
        self._is_open = False
        self._is_over = False
        self._was_refused = False

    @property
    def steps(self) -> StepBox:
        """The durable steps of the run, kept from the first time that somebody asks: most runs have none."""
        if self._steps is None:
            self._steps = StepBox()
            if self._is_shut:  # looked at after the steps are there, as `_shut` looks for them after it is set
                self._steps.close()
        return self._steps

    @property
    def is_open(self) -> bool:
        """Tell whether more may be said."""
        return self._is_open

    @property
    def has_ended(self) -> bool:
        """Tell whether its ending is known, sent or not."""
        return self._outcome is not None or self._release or self._is_over

    @property
    def is_full(self) -> bool:
        """Tell whether who emits has to wait."""
        return len(self._events) >= BUFFER_EVENTS or self._size >= BUFFER_BYTES

    def check_quota(self, size: int, most: int, room: int) -> None:
        """Refuse an event of this size beyond what a run may store; 0 stands for any number.

        A status that waits has its place kept.

        Raises:
            EventQuotaError: so many events, or bytes, were said.
        """
        if most and self._last_n + 2 > most:
            raise EventQuotaError(most, "events")
        waiting = 0 if self._waiting is None else len(encode(self._waiting))
        if room and self._said + waiting + size > room:
            raise EventQuotaError(room, "bytes of events")

    def open(self, lease: str, now: float) -> None:
        """Begin, now that the run has its lease."""
        self.lease = lease
        self._is_open = not self._is_over
        self._hold_until = now + HOLD

    def append(self, body: bytes, *, quota: tuple[int, int] = (0, 0), at_once: bool = False) -> None:
        """Add an event, behind the status that waits; `at_once`: it does not wait whether the run ends soon.

        Raises:
            TaskFinishedError: the run has ended.
            EventQuotaError: it would be more events, or bytes, than `quota`.
            MessageTooLargeError: no hub would take it.
        """
        if not self._is_open:
            raise TaskFinishedError(self.key[0])
        if quota != (0, 0):
            self.check_quota(len(body), *quota)
        if len(body) > MAX_EVENT:
            raise MessageTooLargeError(len(body), MAX_EVENT)
        if at_once:
            self._hold_until = 0.0
        if self._waiting is not None:
            self._add(encode(self._waiting))
            self._waiting = None
        self._add(body)

    def add_step(self, name: str, value: bytes) -> None:
        """Add a step: whoever did it waits for the answer, so it goes at once.

        Raises:
            TaskFinishedError: the run has ended.
        """
        if not self._is_open:
            raise TaskFinishedError(self.key[0])
        self.steps.add(name, value)

    def latest(self, event: EventBody, now: float) -> None:
        """Add a status at its pace: the newest text and the newest fraction wait for their second."""
        if not self._is_open:
            raise TaskFinishedError(self.key[0])
        event = _merged(self._waiting, event)
        if len(encode(event)) > MAX_EVENT:
            raise MessageTooLargeError(len(encode(event)), MAX_EVENT)
        self._waiting = event
        self._flush_status(now)

    def close_ask(self, ask: str) -> bool:
        """Say, behind what was said so far, that the run waits for an answer no more; tell whether it may speak."""
        if self._is_open:
            self._hold_until = 0.0
            self._ask_closed = ask
        return self._is_open

    def finish(self, ending: Ending, now: float) -> bool:
        """End with an outcome; tell whether this ending is the first."""
        if not self._close(now):
            return False
        self._outcome = _outcome(self.key[1], self._last_n, ending)
        return True

    def release(self, now: float) -> bool:
        """End by giving the task back; tell whether this ending is the first."""
        if not self._close(now):
            return False
        self._release = True
        return True

    def drop(self) -> bool:
        """End without another word, for the task is not ours any more; tell whether it still had an open end."""
        first = not self.has_ended
        self._shut()
        self._is_over = True
        self._forget_all()
        return first

    def due_at(self) -> float | None:
        """Return when there is something to send; None when there is nothing."""
        if self._is_over or not self.lease:
            return None
        if self._outcome is not None or self._release or (self._steps is not None and self._steps.are_waiting):
            return self._not_before
        status = None if self._waiting is None else max(self._status_at + STATUS_INTERVAL, self._not_before)
        if not self._events and self._ask_closed is None:
            return status
        due = max(self._hold_until, self._not_before)
        return due if status is None else min(due, status)

    def take(self, now: float, room: int) -> tuple[Report, int] | None:
        """Return the next report and its bytes, with events of at most `room` or one; None when none is due."""
        due = self.due_at()
        if due is None or due > now:
            return None
        self._flush_status(now)
        report = self._report(0, 0, room)
        return report, len(encode(report))

    def unanswered(self, room: int) -> list[Report]:
        """Return all that the hub has not answered, in reports of at most `room` bytes; only once there is an outcome.

        It is for a file that outlives this process: nothing counts as sent by it.
        """
        if self._outcome is None or self._is_over:
            return []
        reports: list[Report] = []
        steps = events = 0
        while not reports or reports[-1].outcome is None:
            report = self._report(steps, events, room)
            steps, events = steps + len(report.steps), events + len(report.events)
            reports.append(report)
        return reports

    def answered(self, report: Report, stored: Sequence[Step] = ()) -> bool:
        """Take note that the hub has it, and what it stored of its steps; tell whether all is said."""
        if report.steps:
            self.steps.answered(report.steps, stored)
        if report.events:
            self._forget_until(report.events[-1].n)
        if report.ask_closed == self._ask_closed:
            self._ask_closed = None
        if report.outcome is None and not report.release:
            return False
        self.drop()
        return True

    def expected(self, n: int | None) -> bool:
        """Send again from `n`; tell whether that is possible."""
        if n is None or n > self._last_n + 1 or (n <= self._last_n and n < self._first_kept()):
            return False
        self._forget_until(n - 1)
        return True

    def later(self, when: float) -> None:
        """Try again at that moment, for the hub could not deal with it now."""
        self._not_before = when

    def refused(self, report: Report, ending: Ending, now: float) -> bool:
        """End as failed because the hub cannot take this report; tell whether that is possible: once."""
        if self._was_refused or not (report.steps or report.events or report.outcome):
            return False
        self._was_refused = True
        if report.events:
            self._last_n = report.events[0].n - 1
        self._forget_all()
        self._shut()
        self._release = False
        self._outcome = _outcome(self.key[1], self._last_n, ending)
        self._not_before = now
        return True

    def _add(self, body: bytes) -> None:
        self._last_n += 1
        self._events.append((self._last_n, body))
        self._size += len(body)
        self._said += len(body)

    def _flush_status(self, now: float) -> None:
        if self._waiting is None or (self._is_open and now < self._status_at + STATUS_INTERVAL):
            return
        self._add(encode(self._waiting))
        self._waiting = None
        self._status_at = now

    def _close(self, now: float) -> bool:
        if self.has_ended or not self.lease:
            return False
        self._shut()
        self._flush_status(now)
        return True

    def _report(self, steps_from: int, start: int, room: int) -> Report:
        """Return a report of the kept steps and events from these places on; the ending stands in the last one."""
        steps, size = ([], 0) if self._steps is None else self._steps.take(steps_from, room)
        report = Report(task_id=self.key[0], epoch=self.key[1], lease=self.lease, steps=steps)
        if self._steps is not None and self._steps.remain(steps_from + len(steps)):
            return report
        events = report.events = []
        for n, body in islice(self._events, start, None):
            if (steps or events) and (size + len(body) > room or len(events) == REPORT_EVENTS):
                break
            size += len(body)
            events.append(ReportEvent(n=n, body=msgspec.Raw(body)))
        if start + len(events) == len(self._events):
            report.ask_closed = self._ask_closed
            report.outcome = self._outcome
            report.release = self._release
        return report

    def _shut(self) -> None:
        """Let nothing more be said, and nobody wait."""
        self._is_open = False
        self._is_shut = True
        if self._steps is not None:
            self._steps.close()

    def _forget_all(self) -> None:
        if self._steps is not None:
            self._steps.drop()
        self._events.clear()
        self._size = 0
        self._waiting = None

    def _first_kept(self) -> int:
        return self._events[0][0] if self._events else self._last_n + 1

    def _forget_until(self, n: int) -> None:
        while self._events and self._events[0][0] <= n:
            self._size -= len(self._events.popleft()[1])


def _merged(older: EventBody | None, newer: EventBody) -> EventBody:
    """Let the newer say what it says, and the older what the newer leaves out."""
    if older is None:
        return newer
    progress = older.progress if newer.progress is None else newer.progress
    message = older.message if newer.message is None else newer.message
    return EventBody(type="progress", progress=progress, message=message)


@lru_cache(maxsize=64)
def _outcome(epoch: int, last_n: int, ending: Ending) -> Outcome:
    """Put an ending into wire form; its digest tells a repeat from another outcome."""
    if ending.state not in ("completed", "failed", "canceled", "expired"):
        raise ValueError(f"{ending.state} is no outcome")
    outcome = Outcome(
        state=ending.state,
        last_n=last_n,
        digest="",
        error=None if ending.error is None else fitting(ending.error, MAX_ERROR),
        error_code=ending.error_code,
        reason=None if ending.reason is None else fitting(ending.reason, MAX_REASON),
    )
    outcome.digest = hashlib.sha256(b"%d." % epoch + encode(outcome)).hexdigest()
    return outcome
