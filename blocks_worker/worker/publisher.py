"""The threads that bring the hub what runs have to say, in natural batches, until the hub has answered."""

from __future__ import annotations

import logging
import threading
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from blocks_worker.concurrency import ServiceThread
from blocks_worker.errors import BlocksError, EventQuotaError
from blocks_worker.protocol.codec import encode
from blocks_worker.worker.failures import refused_report
from blocks_worker.worker.outbox import HOLD
from blocks_worker.worker.outboxes import REQUEST_BYTES, Outboxes
from blocks_worker.worker.parts import answered_each
from blocks_worker.worker.refusals import Refusals
from blocks_worker.worker.repeats import Repeats
from blocks_worker.worker.room import Room
from blocks_worker.worker.watch import Watch, ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocks_worker.concurrency import Alarm, Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.events import EventBody
    from blocks_worker.protocol.leases import Claim, Numbers, Report, ReportAnswer
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.outbox import Outbox
    from blocks_worker.worker.ports import Heard, RunApi
    from blocks_worker.worker.run import Ending, Run, RunKey
    from blocks_worker.worker.spool import Spool

_logger = logging.getLogger(__name__)

#: Seconds until a request without an answer is repeated.
REPORT_TIMEOUT = 5.0

_FENCED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})


#: Requests under way at the same time: while the hub writes one down, the next is on its way to it.
REQUESTS = 2


class Publisher:
    """Send reports with two requests in flight at most; what gathers meanwhile is the next request.

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
        self._refusals = Refusals(nack, counters)
        self._clock = clock
        self._counters = counters
        self._spool = spool
        self._lock = threading.Lock()
        self._watch = Watch(REQUESTS, clock)
        self._repeats = Repeats(clock, entropy)
        self._room = Room(self._lock, clock)
        self._boxes = Outboxes()
        self._until: Deadline | None = None
        #: Events that one run may store, and their bytes; 0: any number.
        self._quota = (0, 0)
        self._threads = [
            ServiceThread(f"publisher-{number}", partial(self._serve, alarm))
            for number, alarm in enumerate(self._watch.alarms, start=1)
        ]

    def use(self, numbers: Numbers) -> None:
        """Take over the hub's numbers."""
        self._quota = (numbers.run_events, numbers.run_event_bytes)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def behind(self) -> float:
        """Return for how many seconds a thread is at one request, or late for the next."""
        return self._watch.behind()

    def stop(self, until: Deadline, deadline: Deadline) -> bool:
        """Send what waits, the last of it at `until`, and end; tell whether the threads ended by the deadline."""
        with self._lock:
            self._until = until
        for alarm in self._watch.alarms:
            alarm.ring()
        left = [thread for thread in self._threads if not thread.join(deadline.remaining())]
        return not left

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
            alarm = self._speaks(run.outbox)
        ring(alarm)

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
            alarm = self._speaks(run.outbox)
        ring(alarm)

    def close_ask(self, run: Run, ask: str) -> bool:
        """Say that a run waits for the answer to its question no more; tell whether it may still speak."""
        with self._lock:
            if not run.outbox.close_ask(ask):
                return False
            alarm = self._speaks(run.outbox)
        ring(alarm)
        return True

    def add_step(self, run: Run, name: str, value: bytes) -> None:
        """Take a step to send; whoever did it waits at the run's steps for the answer.

        Raises:
            TaskFinishedError: the run has ended.
        """
        with self._lock:
            run.outbox.add_step(name, value)
            run.spoke_at = self._clock.monotonic()
            alarm = self._speaks(run.outbox)
        ring(alarm)

    def end(self, run: Run, ending: Ending, leave: Callable[[Run], None] | None = None) -> bool:
        """Take the ending of a run; tell whether it is the first, for only that one counts.

        `leave` is called before anything of it can be sent: the hub offers the next task in answer to an
        outcome, and the slot must be free by then.
        """
        outbox, alarm = run.outbox, None
        with self._lock:
            if leave is not None:
                leave(run)
            if ending.state == "fenced":
                self._over(outbox)
                first = outbox.drop()
            elif ending.state == "released":
                first = outbox.release(self._clock.monotonic())
            else:
                first = outbox.finish(ending, self._clock.monotonic())
                if first:
                    once = run.answer is not None and run.answer.delivery == "at_most_once"
                    self._spool.ended(run.key, once=once)
            if first and ending.state != "fenced":
                alarm = self._speaks(outbox)
            self._room.freed()
        ring(alarm)
        return first

    def unanswered(self, keys: Iterable[RunKey]) -> list[Report]:
        """Return what these runs have said and the hub has not answered, for those whose outcome is known."""
        with self._lock:
            return [report for box in self._boxes.of(keys) for report in box.unanswered(REQUEST_BYTES)]

    def unheard(self) -> int:
        """Return how many runs have an outcome that the hub has not answered."""
        with self._lock:
            return sum(bool(box.unanswered(REQUEST_BYTES)) for box in self._boxes.all())

    def hub_is_back(self) -> None:
        """Send at once what waits for its repeat: the hub answers again.

        It counts what it has not heard of as held, and offers nothing in its place.
        """
        with self._lock:
            self._repeats.hub_is_back()
            alarm = self._watch.alarm_for(float("-inf")) or (self._watch.another() if self._boxes.are_many else None)
        ring(alarm)

    def refuse(self, claim: Claim) -> None:
        """Take the refusal of an offer."""
        with self._lock:
            alarm = None
            if self._refusals.add(claim):
                alarm = self._watch.alarm_for(float("-inf")) or self._watch.another()
        ring(alarm)

    def _speaks(self, outbox: Outbox) -> Alarm | None:
        """Note that this one has something to say; return whom to ring for that once the lock is free, if anybody."""
        self._boxes.speaks(outbox)
        due = outbox.due_at()
        if due is None:
            return None
        if self._boxes.is_sending:
            return self._watch.another() if self._boxes.are_many else None
        return self._watch.alarm_for(due)

    def _serve(self, alarm: Alarm) -> None:
        has_sent = False
        while True:
            with self._lock:
                now = self._clock.monotonic()
                self._watch.woke(alarm, now)
                nacks = self._refusals.take()
                batch = self._boxes.gather(now) if now >= self._repeats.not_before else []
                rests = not nacks and not batch
                another = self._watch.another() if batch and self._boxes.are_many else None
                if rests and self._is_done():
                    self._watch.ended(alarm)
                    return
                pause = self._pause(alarm, now, lingers=has_sent) if rests else 0.0
            ring(another)
            if rests:
                alarm.sleep(pause)
            else:
                self._refusals.send(nacks)
                self._send(batch)
            has_sent = not rests

    def _is_done(self) -> bool:
        return self._until is not None and (self._until.expired() or not self._boxes.dues())

    def _pause(self, alarm: Alarm, now: float, *, lingers: bool) -> float | None:
        """Return for how long a thread sleeps; None: until it is woken.

        `lingers`: it looks once more before the first words of a run that begins now are due, which then need not
        wake it: where runs follow each other closely only their ends do.
        """
        is_second = self._boxes.is_sending
        dues = [] if is_second and not self._boxes.are_many else self._boxes.dues()
        looks_at = max(min(dues), self._repeats.not_before) if dues else float("inf")
        if is_second:
            # What failed, or was put off, while the other request is under way: it does not wait for that one's end.
            looks_at = max(looks_at, now + HOLD)
        elif lingers:
            looks_at = min(looks_at, now + HOLD)
        looks = self._watch.sleeps(alarm, looks_at, may_watch=not is_second) or is_second
        pause = max(0.0, looks_at - now) if looks and looks_at < float("inf") else None
        if self._until is not None:
            pause = self._until.within(pause if pause is not None else 1.0)
        return pause

    def _send(self, batch: list[tuple[Outbox, Report]]) -> None:
        if not batch:
            return
        try:
            self._report(batch)
        finally:
            self._sent(batch)

    def _sent(self, batch: list[tuple[Outbox, Report]]) -> None:
        """Let these be reported again: nothing of them is on its way any more."""
        with self._lock:
            self._boxes.sent(batch)

    def _report(self, batch: list[tuple[Outbox, Report]]) -> None:
        self._spool.before_sending(outbox.key for outbox, report in batch if report.outcome is not None)
        returns = self._repeats.returns
        timeout = REPORT_TIMEOUT if self._until is None else max(0.1, self._until.within(REPORT_TIMEOUT))
        try:
            answers = answered_each(
                [report for _, report in batch], lambda reports: self._api.reports(reports, timeout=timeout)
            )
        except BlocksError as error:
            self._failed(error, len(batch), returns)
            return
        except Exception as error:  # one broken answer must not end a thread that reports
            _logger.exception("report_broken")
            self._failed(error, len(batch), returns)
            return
        self._recovered()
        for (outbox, report), answer in zip(batch, answers, strict=False):
            self._apply(outbox, report, answer)

    def _failed(self, error: Exception, reports: int, returns: int) -> None:
        self._counters.count("reports_repeated", reports)
        with self._lock:
            is_new = self._repeats.failed(error, returns)
        if is_new:
            _logger.warning("report_retry", extra={"error": str(error)})

    def _recovered(self) -> None:
        with self._lock:
            had_trouble = self._repeats.recovered()
        if had_trouble:
            _logger.info("report_recovered")

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
            self._over(outbox)
            return self._heard.answered
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and outbox.expected(
            answer.body.expected_n if answer.body else None
        ):
            self._counters.count("reports_repeated")
            return None
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._counters.count("reports_repeated")
            outbox.later(self._repeats.one_later())
            return None
        if answer.status not in _FENCED:
            self._counters.count("reports_failed")
            ending = refused_report(answer)
            about = {"task": outbox.key[0], "status": answer.status, "error": ending.error}
            _logger.error("report_refused", extra=about)
            if outbox.refused(report, ending, now):
                return None
        self._over(outbox)
        return self._heard.fenced

    def _over(self, outbox: Outbox) -> None:
        self._boxes.over(outbox)
        self._spool.answered(outbox.key)
