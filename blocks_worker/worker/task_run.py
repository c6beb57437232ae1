"""One run from its claim to its report: the steps in order."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import partial
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING

from blocks_worker.context.events import TaskEvents, download_input_artifact
from blocks_worker.context.messages import StartTaskMessage
from blocks_worker.errors import EventQuotaError, InvalidMessageError, TaskCancelledError, TaskFinishedError
from blocks_worker.handlers.outputs import OutputCheck
from blocks_worker.handlers.results import normalise
from blocks_worker.observability.logs import bind_task
from blocks_worker.processes import end_if_forked
from blocks_worker.protocol.channels import task_channel
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.leases import Claim
from blocks_worker.worker.failures import ending_of, is_our_users_fault, users_trace
from blocks_worker.worker.generated import carried_out
from blocks_worker.worker.inputs import InputCheck
from blocks_worker.worker.middleware.silence import shorter
from blocks_worker.worker.run import Ending
from blocks_worker.worker.run_context import RunEmitter, context_of
from blocks_worker.worker.start_body import content_of, offered_digest, parsed
from blocks_worker.worker.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.context.task import TaskContext
    from blocks_worker.handlers.base import Handler
    from blocks_worker.handlers.results import Result
    from blocks_worker.protocol.leases import ClaimAnswer
    from blocks_worker.worker.asking import Asking
    from blocks_worker.worker.calls import Calls
    from blocks_worker.worker.claims import Claims
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.dispatcher import Dispatcher
    from blocks_worker.worker.endings import Endings
    from blocks_worker.worker.hooks import Hooks
    from blocks_worker.worker.loop import CoroutineLoop
    from blocks_worker.worker.pausing import Pauses
    from blocks_worker.worker.pipes import Pipes
    from blocks_worker.worker.publisher import Publisher
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.run_files import RunFiles
    from blocks_worker.worker.run_steps import RunSteps
    from blocks_worker.worker.running import Running
    from blocks_worker.worker.settings import WorkerSettings
    from blocks_worker.worker.standing import Standing
    from blocks_worker.worker.streams import WorkerStreams

_logger = logging.getLogger(__name__)

#: The first event of every run.
_RUNNING = EventBody(type="progress", progress=0.0, state="running")
_COMPLETED = Ending("completed")


class TaskRun:
    """Carry out offered tasks, each on the slot's thread that calls this."""

    def __init__(  # noqa: PLR0913 - this is where the parts of a run meet
        self,
        *,
        settings: WorkerSettings,
        handler: Handler,
        standing: Standing,
        claims: Claims,
        files: Callable[[Run], RunFiles],
        steps: Callable[[Run], RunSteps],
        streams: WorkerStreams,
        pipes: Pipes,
        pauses: Pauses,
        asking: Asking,
        publisher: Publisher,
        endings: Endings,
        running: Running,
        dispatcher: Dispatcher,
        hooks: Hooks,
        loop: CoroutineLoop,
        calls: Calls,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._standing = standing
        self._claims = claims
        self._files = files
        self._steps = steps
        self._streams = streams
        self._pipes = pipes
        self._pauses = pauses
        self._asking = asking
        self._publisher = publisher
        self._endings = endings
        self._running = running
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._loop = loop
        self._calls = calls
        self._clock = clock
        self._counters = counters
        self._inputs = InputCheck(settings.card)
        self._outputs = OutputCheck(settings.card)
        self._process = os.getpid()

    def __call__(self, run: Run) -> None:
        """Claim, admit, prepare, call the handler, report; every line that is logged meanwhile names the task."""
        try:
            with bind_task(run.task_id):
                self._do(run)
        except BaseException as error:
            # Nobody else would end it: its lease lives as long as this process.
            self._endings.end(run, ending_of(error, stopped=run.stopped_as), leaves=True)
            raise
        finally:
            self._running.slot_back(run)

    def _do(self, run: Run) -> None:
        if not self._claim(run):
            self._running.answered(run.key)
            return
        task = self._admit(run)
        if task is not None:
            self._carry_out(run, task)

    def _claim(self, run: Run) -> bool:
        if self._dispatcher.is_closed:
            self._publisher.refuse(Claim(task_id=run.task_id, epoch=run.epoch, nack="draining"))
            return False
        answer = self._lease(run)
        if answer is None:
            return False
        _logger.debug("claimed", extra={"epoch": run.epoch, "attempt": answer.attempt})
        limit = min(answer.max_runtime, self._settings.max_runtime)
        run.answer = answer
        run.started_at = self._clock.monotonic()
        run.is_pipe = answer.expires_at is not None
        run.deadline, run.limit = self._standing.run_until(run.started_at, limit, answer.deadline, answer.expires_at)
        run.spoke_at = run.started_at
        run.progress_timeout = (
            None if run.is_pipe else shorter(answer.progress_timeout, self._settings.progress_timeout)
        )
        self._publisher.open(run, answer.lease)
        return True

    def _lease(self, run: Run) -> ClaimAnswer | None:
        """Claim with what came along; should that be another content than the hub's, once more without it.

        A lease that came with its offer needs no claim, unless the task was cancelled or fenced before.
        """
        granted = self._standing.answers_for(run.offer, self._clock.monotonic())
        if granted is not None and not run.is_fenced:
            run.content = content_of(run.offer, granted)
            if run.content is not None:
                return granted
        until = run.received_at + self._standing.numbers.offer_timeout
        have = offered_digest(run.offer)
        sent = Claim(task_id=run.task_id, epoch=run.epoch, have=have)
        answer = self._claims.claim(sent, until, lambda: run.is_fenced)
        if answer is not None and content_of(run.offer, answer) is None:
            answer = self._claims.claim(Claim(task_id=run.task_id, epoch=run.epoch), until, lambda: run.is_fenced)
        run.content = None if answer is None else content_of(run.offer, answer)
        return answer

    def _admit(self, run: Run) -> StartTaskMessage | None:
        """Return the task as the handler gets it; None when nothing is to be started."""
        answer = run.answer
        if answer is None or not run.outbox.is_open:
            return None
        self._endings.told(run.key, answer)
        if run.is_pipe and run.deadline is not None and run.deadline <= self._clock.monotonic():
            self._endings.run_out(run, run.limit)
        if run.stopped_as is not None:
            self._endings.end(run, run.stopped_as, leaves=True)
            return None
        if self._dispatcher.is_closed:
            self._endings.end(run, Ending("released"), leaves=True)
            return None
        try:
            start = parsed(run.content or b"")
        except InvalidMessageError as error:
            _logger.warning("task_invalid", extra={"task": run.task_id, "error": str(error)})
            ending = Ending("failed", error="invalid_start_task", error_code="invalid_start_task")
            self._endings.end(run, ending, leaves=True)
            return None
        start = start if answer.expires_at is None else {**start, "durationExpiresAtMs": answer.expires_at}
        return StartTaskMessage.of(task_id=run.task_id, attempt=answer.attempt, start=start)

    def _carry_out(self, run: Run, task: StartTaskMessage) -> None:
        files = self._files(run)
        context = None
        if self._handler.takes_context or self._settings.on_cancel_task is not None:
            context = self._context(run, task, files)
        self._hooks.before_run(run)
        try:
            self._publisher.emit(run, _RUNNING)
            ending = self._handle(run, task, context, files)
        except TaskFinishedError:
            # A limit or a lost lease ended the run while it was at work: what it has now comes too late.
            ending = Ending("fenced")
        if ending is None:
            self._pipes.returned(run)
        else:
            self._report(run, ending)

    def _context(self, run: Run, task: StartTaskMessage, files: RunFiles) -> TaskContext:
        """Return what the handler is given, and give the run its voice."""
        emitter = RunEmitter(self._publisher, run)
        streams = self._streams.of(run, task, emitter.emit)
        run.voice = self._voice(run, task, emitter)
        return context_of(
            run,
            task,
            TaskEvents(emitter, store=files.store),
            fetch=files.fetch,
            create_stream=streams.create,
            wait_while_paused=lambda: self._pauses.wait(run, emitter.emit),
            ask=partial(self._asking.ask, run, emitter.emit),
            calls=self._calls,
            step=self._steps(run),
            clock=self._clock,
        )

    def _handle(self, run: Run, task: StartTaskMessage, context: TaskContext | None, files: RunFiles) -> Ending | None:
        """Call the handler and publish what it returned; return how the run ends, None for a pipe that goes on."""
        try:
            result = self._returned(run, task, context, files)
        except BaseException as error:  # noqa: BLE001 - the edge of a handler: SystemExit ends the task, not the slot
            ending = self._raised(run, error)
            self._streams.end(run)
            return ending
        if run.voice is not None and run.voice.has_ended():
            return Ending("fenced")
        if run.is_pipe:
            return self._left_open(run, result, files)
        if run.gives_back:
            return Ending("released")
        self._streams.end(run)
        stopped = run.stopped_as
        failure = self._say(run, result, files)
        return stopped or failure or _COMPLETED

    def _voice(self, run: Run, task: StartTaskMessage, emitter: RunEmitter) -> Voice:
        def finish(ending: Ending) -> bool:
            self._streams.end(run)
            return self._endings.end(run, ending)

        channel = task_channel(task.owner_id, run.task_id)
        return Voice(run, channel=channel, emit=emitter.emit, finish=finish, clock=self._clock)

    def _left_open(self, run: Run, result: Result, files: RunFiles) -> Ending | None:
        """Publish what the handler of a pipe returned; its streams end with its task."""
        failure = self._say(run, result, files)
        ending = Ending("released") if run.gives_back else run.stopped_as or failure
        if ending is not None:
            self._streams.end(run)
        return ending

    def _returned(self, run: Run, task: StartTaskMessage, context: TaskContext | None, files: RunFiles) -> Result:
        """Return what the handler made of the task; a child that it forked and that comes back here ends here."""
        try:
            return self._result(run, task, context, files)
        finally:
            end_if_forked(self._process)

    def _result(self, run: Run, task: StartTaskMessage, context: TaskContext | None, files: RunFiles) -> Result:
        """Call the handler and read what it returned; a generator is read here, and so is still the handler.

        An input that is not as the card says never reaches the handler.
        """
        self._inputs.check(task, partial(download_input_artifact, fetch=files.fetch))
        _logger.debug("handler_called")
        returned = self._handler(task, context)
        if isinstance(returned, CoroutineType):
            returned = self._loop.run(returned, run)
        if isinstance(returned, GeneratorType):
            streams = self._streams.of(run, task, partial(self._publisher.emit, run))
            returned = carried_out(returned, streams, run.cancel_event.is_set)
        _logger.debug("handler_returned", extra={"kind": type(returned).__name__})
        outputs = self._outputs
        # Who was asked to stop need not give everything, and what was published is given.
        owed = outputs.guaranteed - run.published if outputs.guaranteed and not run.stopped_as else frozenset()
        result = normalise(returned, outputs=outputs.known, guaranteed=owed)
        found = outputs.warnings(result.artifacts, run.published)
        return replace(result, warnings=[*result.warnings, *found]) if found else result

    def _say(self, run: Run, result: Result, files: RunFiles) -> Ending | None:
        """Publish warnings and artifacts; return how the run fails when they cannot be.

        Nothing waits for room: the result is in memory already, the handler's buffer is not.
        """
        try:
            for warning in result.warnings:
                _logger.warning("result_warning", extra={"task": run.task_id, "warning": warning})
                event = EventBody(type="system", status="warning", message=warning)
                self._publisher.emit(run, event, waits=False)
            if result.warnings and self._settings.strict_results:
                return Ending("failed", error="; ".join(result.warnings), error_code="bad_result")
            for event in self._artifacts(result, files):
                self._publisher.emit(run, event, waits=False)
        except EventQuotaError as error:
            return ending_of(error, stopped=None)
        except (ValueError, UnicodeError) as error:
            return Ending("failed", error=str(error), error_code="artifact_failed")
        return None

    def _artifacts(self, result: Result, files: RunFiles) -> list[EventBody]:
        """Return the events of all artifacts, large ones stored, so that either all are published or none."""
        return [
            EventBody(
                type="artifact",
                artifact_ref=files.store(
                    each.data, mime_type=each.mime_type, file_name=each.file_name, output_id=each.output_id
                ),
                output_id=each.output_id,
            )
            for each in result.artifacts
        ]

    def _raised(self, run: Run, error: BaseException) -> Ending:
        if self._settings.on_raised is not None:
            self._settings.on_raised(error)
        if run.gives_back:
            return Ending("released")
        ending = ending_of(error, stopped=run.stopped_as)
        obeys = run.is_fenced and isinstance(error, TaskCancelledError)
        if ending.state == "failed" and not (run.is_expired or obeys or is_our_users_fault(error)):
            trace = (type(error), error, users_trace(error))
            _logger.error("handler_failed", extra={"task": run.task_id}, exc_info=trace)
            self._tell(run, error)
        return ending

    def _tell(self, run: Run, error: BaseException) -> None:
        if self._settings.on_error is None:
            return
        try:
            self._settings.on_error(run.task_id, error)
        except Exception:  # the callback is the user's: its trouble goes no further
            _logger.exception("on_error_failed", extra={"task": run.task_id})

    def _report(self, run: Run, ending: Ending) -> None:
        if run.voice is not None and run.voice.ended:
            return
        if ending.state == "fenced" or not self._endings.end(run, ending, leaves=True):
            self._counters.count("late_results")
