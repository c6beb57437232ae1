"""The thread that brings the hub what runs have to say, in natural batches, until the hub has answered."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from blocks_worker.batching import BATCH_ITEMS
from blocks_worker.concurrency import Backoff, ServiceThread
from blocks_worker.errors import BlocksError, EventQuotaError
from blocks_worker.protocol.codec import encode
from blocks_worker.worker.alarm import Alarm
from blocks_worker.worker.failures import refused_report
from blocks_worker.worker.outbox import HOLD
from blocks_worker.worker.parts import answered_each
from blocks_worker.worker.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.events import EventBody
    from blocks_worker.protocol.leases import Claim, Numbers, Report, ReportAnswer
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.outbox import Outbox
    from blocks_worker.worker.ports import Heard, RunApi
    from blocks_worker.worker.run import Ending, Run, RunKey
    from blocks_worker.worker.spool import Spool

_logger = logging.getLogger(__name__)

#: Bytes of one request, unless a single report is more; the hub takes 1 MiB.
REQUEST_BYTES = 640 * 1024
#: Seconds until a request without an answer is repeated.
REPORT_TIMEOUT = 5.0
#: Refusals of offers that may wait; one too many is lost, and counted: the offer then times out by itself.
NACKS = 1024

_FENCED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})


class Publisher:
    """Send reports with one request in flight; what gathers meanwhile is the next request.

    Duties: number and keep the events of all runs, decide which ending of a run is the first, repeat
    until answered, and carry the refusals of offers, which the listener may not send itself.
    """

    def __init__(
        self,
        api: RunApi,
        *,
        heard: Heard,
        nack: Callable[[Sequence[Claim]], object],
        clock: Clock,
        entropy: Entropy,
        counters: Counters,
        spool: Spool,
    ) -> None:
        self._api = api
        self._heard = heard
        self._nack = nack
        self._clock = clock
        self._backoff = Backoff(entropy, cap=15.0)
        self._counters = counters
        self._spool = spool
        self._lock = threading.Lock()
        self._alarm = Alarm()
        self._room = Room(self._lock, clock)
        self._speaking: dict[RunKey, Outbox] = {}
        self._nacks: list[Claim] = []
        #: When the thread looks next by itself; minus infinity while it is awake.
        self._looks_at = float("-inf")
        #: When it began what it is at, or is to look next; infinity before its start and when it has ended.
        self._due = float("inf")
        self._not_before = float("-inf")
        #: Why the last request failed, in few words; None since one was answered.
        self._trouble: tuple[str, object] | None = None
        #: How often the hub was told to be back: what failed on the way there has no pause after it.
        self._returns = 0
        self._until: Deadline | None = None
        #: Events that one run may store, and their bytes; 0: any number.
        self._quota = (0, 0)
        self._thread = ServiceThread("publisher", self._serve)

    def use(self, numbers: Numbers) -> None:
        """Take over the hub's numbers."""
        self._quota = (numbers.run_events, numbers.run_event_bytes)

    def start(self) -> None:
        """Start the thread."""
        self._due = self._clock.monotonic()
        self._thread.start()

    def behind(self) -> float:
        """Return for how many seconds the thread is at one request, or late for the next."""
        return max(0.0, self._clock.monotonic() - self._due)

    def stop(self, until: Deadline, deadline: Deadline) -> bool:
        """Send what waits, the last of it at `until`, and end; tell whether the thread ended by the deadline."""
        with self._lock:
            self._until = until
        self._alarm.ring()
        return self._thread.join(deadline.remaining())

    def open(self, run: Run, lease: str) -> None:
        """Let a run speak under its lease."""
        with self._lock:
            run.outbox.open(lease, run.started_at)

    def emit(self, run: Run, event: EventBody, *, waits: bool = True) -> None:
        """Take an event to send; `waits`: for room, if too much is unanswered.

        Raises:
            TaskFinishedError: the run has ended.
            PublishTimeoutError: there was no room for too long.
            TaskCancelledError: the task is to stop, and there was no room.
            EventQuotaError: it would be more than one run may store.
        """
        body = encode(event)
        with self._lock:
            if waits and run.outbox.is_full:
                self._room.wait(run)
            run.outbox.append(
                body, quota=self._quota, at_once=event.stream_event is not None or event.type == "question"
            )
            run.spoke_at = self._clock.monotonic()
            rings = self._speaks(run.outbox)
        if rings:
            self._alarm.ring()

    def emit_latest(self, run: Run, event: EventBody) -> None:
        """Take a status, of which the newest counts; one beyond what a run may store is dropped, and counted."""
        size = len(encode(event))
        with self._lock:
            try:
                run.outbox.check_quota(size, *self._quota)
            except EventQuotaError:
                self._counters.count("statuses_dropped")
                return
            run.spoke_at = self._clock.monotonic()
            run.outbox.latest(event, run.spoke_at)
            rings = self._speaks(run.outbox)
        if rings:
            self._alarm.ring()

    def close_ask(self, run: Run, ask: str) -> bool:
        """Say that a run waits for the answer to its question no more; tell whether it may still speak."""
        with self._lock:
            if not run.outbox.close_ask(ask):
                return False
            rings = self._speaks(run.outbox)
        if rings:
            self._alarm.ring()
        return True

    def add_step(self, run: Run, name: str, value: bytes) -> None:
        """Take a step to send; whoever did it waits at the run's steps for the answer.

        Raises:
            TaskFinishedError: the run has ended.
        """
        with self._lock:
            run.outbox.add_step(name, value)
            run.spoke_at = self._clock.monotonic()
            rings = self._speaks(run.outbox)
        if rings:
            self._alarm.ring()

    def end(self, run: Run, ending: Ending, leave: Callable[[Run], None] | None = None) -> bool:
        """Take the ending of a run; tell whether it is the first, for only that one counts.

        `leave` is called before anything of it can be sent: the hub offers the next task in answer to an
        outcome, and the slot must be free by then.
        """
        outbox, rings = run.outbox, False
        with self._lock:
            if leave is not None:
                leave(run)
            if ending.state == "fenced":
                self._speaking.pop(run.key, None)
                self._spool.answered(run.key)
                first = outbox.drop()
            elif ending.state == "released":
                first = outbox.release(self._clock.monotonic())
            else:
                first = outbox.finish(ending, self._clock.monotonic())
                if first:
                    once = run.answer is not None and run.answer.delivery == "at_most_once"
                    self._spool.ended(run.key, once=once)
            if first and ending.state != "fenced":
                rings = self._speaks(outbox)
            self._room.freed()
        if rings:
            self._alarm.ring()
        return first

    def unanswered(self, keys: Iterable[RunKey]) -> list[Report]:
        """Return what these runs have said and the hub has not answered, for those whose outcome is known."""
        with self._lock:
            boxes = [self._speaking[key] for key in keys if key in self._speaking]
            return [report for box in boxes for report in box.unanswered(REQUEST_BYTES)]

    def unheard(self) -> int:
        """Return how many runs have an outcome that the hub has not answered."""
        with self._lock:
            return sum(bool(box.unanswered(REQUEST_BYTES)) for box in self._speaking.values())

    def hub_is_back(self) -> None:
        """Send at once what waits for its repeat: the hub answers again.

        It counts what it has not heard of as held, and offers nothing in its place.
        """
        self._backoff.reset()
        with self._lock:
            self._returns += 1
            self._not_before = float("-inf")
        self._alarm.ring()

    def refuse(self, claim: Claim) -> None:
        """Take the refusal of an offer."""
        with self._lock:
            has_room = len(self._nacks) < NACKS
            if has_room:
                self._nacks.append(claim)
        if has_room:
            self._alarm.ring()
        else:
            self._counters.count("nacks_lost")

    def _speaks(self, outbox: Outbox) -> bool:
        """Note that this one has something to say; tell whether the thread would look too late, and is to be woken.

        Whoever is told so rings once the lock is free: the thread takes it as soon as it is awake.
        """
        self._speaking[outbox.key] = outbox
        if self._looks_at == float("-inf"):
            return False
        due = outbox.due_at()
        if due is None or due >= self._looks_at:
            return False
        self._due = min(self._due, max(due, self._clock.monotonic()))
        return True

    def _serve(self) -> None:
        has_sent = False
        while True:
            with self._lock:
                now = self._due = self._clock.monotonic()
                self._looks_at = float("-inf")
                nacks, self._nacks = self._nacks[:BATCH_ITEMS], self._nacks[BATCH_ITEMS:]
                batch = self._gather(now) if now >= self._not_before else []
                rests = not nacks and not batch
                if rests and self._is_done():
                    self._due = float("inf")
                    return
                pause = self._pause(now, lingers=has_sent) if rests else 0.0
            if rests:
                self._alarm.sleep(pause)
            else:
                self._refuse_all(nacks)
                self._send(batch)
            has_sent = not rests

    def _gather(self, now: float) -> list[tuple[Outbox, Report]]:
        batch: list[tuple[Outbox, Report]] = []
        room = REQUEST_BYTES
        for key, outbox in list(self._speaking.items()):
            taken = outbox.take(now, room)
            if taken is None:
                if outbox.due_at() is None:
                    del self._speaking[key]
                continue
            if batch and taken[1] > room:
                break
            batch.append((outbox, taken[0]))
            room -= taken[1]
            if len(batch) == BATCH_ITEMS or room <= 0:
                break
        return batch

    def _is_done(self) -> bool:
        if self._until is None:
            return False
        return self._until.expired() or not any(box.due_at() is not None for box in self._speaking.values())

    def _pause(self, now: float, *, lingers: bool) -> float | None:
        """Return for how long the thread sleeps; None: until it is woken.

        `lingers`: it looks once more before the first words of a run that begins now are due, which then need not
        wake it: where runs follow each other closely only their ends do.
        """
        dues = [due for box in self._speaking.values() if (due := box.due_at()) is not None]
        looks_at = max(min(dues), self._not_before) if dues else float("inf")
        if lingers:
            looks_at = min(looks_at, now + HOLD)
        self._looks_at = self._due = looks_at
        pause = None if looks_at == float("inf") else max(0.0, looks_at - now)
        if self._until is not None:
            pause = self._until.within(pause if pause is not None else 1.0)
        return pause

    def _refuse_all(self, nacks: list[Claim]) -> None:
        if not nacks:
            return
        try:
            self._nack(nacks)
        except BlocksError as error:
            # Only a hint to the hub, which notices by itself when the offer times out.
            self._counters.count("nacks_lost", len(nacks))
            _logger.debug("nack_failed", extra={"error": str(error)})

    def _send(self, batch: list[tuple[Outbox, Report]]) -> None:
        if not batch:
            return
        self._spool.before_sending(outbox.key for outbox, report in batch if report.outcome is not None)
        returns = self._returns
        timeout = REPORT_TIMEOUT if self._until is None else max(0.1, self._until.within(REPORT_TIMEOUT))
        try:
            answers = answered_each(
                [report for _, report in batch], lambda reports: self._api.reports(reports, timeout=timeout)
            )
        except BlocksError as error:
            self._failed(error, len(batch), returns)
            return
        except Exception as error:  # one broken answer must not end the only thread that reports
            _logger.exception("report_broken")
            self._failed(error, len(batch), returns)
            return
        self._recovered()
        for (outbox, report), answer in zip(batch, answers, strict=False):
            self._apply(outbox, report, answer)

    def _failed(self, error: Exception, reports: int, returns: int) -> None:
        pause = self._backoff.after(error)
        trouble = (type(error).__name__, getattr(error, "status", None))
        if trouble != self._trouble:
            _logger.warning("report_retry", extra={"error": str(error)})
        self._trouble = trouble
        self._counters.count("reports_repeated", reports)
        with self._lock:
            if self._returns == returns:
                self._not_before = self._clock.monotonic() + pause

    def _recovered(self) -> None:
        self._backoff.reset()
        if self._trouble is None:
            return
        _logger.info("report_recovered")
        self._trouble = None
        with self._lock:
            self._not_before = float("-inf")

    def _apply(self, outbox: Outbox, report: Report, answer: ItemResult[ReportAnswer]) -> None:
        """Decide under the lock what an answer means, and tell of it after."""
        with self._lock:
            tell = self._verdict(outbox, report, answer)
            self._room.freed()
        if tell is not None:
            tell(outbox.key)
        if answer.status == HTTPStatus.OK and answer.body is not None:
            self._heard.told(outbox.key, answer.body)

    def _verdict(
        self, outbox: Outbox, report: Report, answer: ItemResult[ReportAnswer]
    ) -> Callable[[RunKey], None] | None:
        now = self._clock.monotonic()
        if answer.status == HTTPStatus.OK:
            if not outbox.answered(report, (answer.body and answer.body.steps) or ()):
                return None
            state = report.outcome.state if report.outcome else "released"
            _logger.debug("reported", extra={"task": outbox.key[0], "epoch": outbox.key[1], "state": state})
            return self._over(outbox, self._heard.answered)
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and outbox.expected(
            answer.body.expected_n if answer.body else None
        ):
            self._counters.count("reports_repeated")
            return None
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._counters.count("reports_repeated")
            outbox.later(now + self._backoff.next(0.2))
            return None
        if answer.status not in _FENCED:
            self._counters.count("reports_failed")
            ending = refused_report(answer)
            about = {"task": outbox.key[0], "status": answer.status, "error": ending.error}
            _logger.error("report_refused", extra=about)
            if outbox.refused(report, ending, now):
                return None
        return self._over(outbox, self._heard.fenced)

    def _over(self, outbox: Outbox, tell: Callable[[RunKey], None]) -> Callable[[RunKey], None]:
        self._speaking.pop(outbox.key, None)
        self._spool.answered(outbox.key)
        return tell
