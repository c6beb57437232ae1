"""Call a handler as a worker does, without a hub, and tell what came of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.artifacts import DownloadedArtifact, download_artifact
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.parts import travelling_parts
from blocks_worker.client.results import TaskResult
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import INLINE_LIMIT
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import StartBody
from blocks_worker.protocol.leases import Numbers
from blocks_worker.runtime.options import AgentInstanceOptions, InstancePlan, plan
from blocks_worker.testing.desk import Desk
from blocks_worker.testing.given_answers import GivenAnswers
from blocks_worker.worker.engine import Engine
from blocks_worker.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext
    from blocks_worker.handlers.base import Handler

#: Seconds for a run to be over after its limit and its grace, and for its parts to end.
_SLACK = 5.0
#: Seconds between two looks whether a handler that was not called yet never will be.
_LOOK = 0.05
_OWNER = "tester"
_TASK = "test-task"


@dataclass
class HandlerRun:
    """What came of one call of a handler.

    Attributes:
        state: ``completed``, ``failed`` or ``canceled``.
        artifacts: as a consumer gets them, those of the result after those published meanwhile.
        statuses: each text of `report_status` and `report_progress`; of these a consumer sees one a second.
        progress: each fraction of `report_progress`.
        events: what a consumer sees, without the terminal event.
        streams: what was written to each stream, under its name in the card or else under its id: events, or chunks.
        questions: the text of each question that was asked.
        steps: what is stored under the name of each `ctx.step`; hand it to the next call, and that goes on from there.
        warnings: what of the result was left out, and why.
        error: what left the handler, or the check of its input; None when nothing did.
        message: how a consumer reads why the task failed.
        error_code: the word for it.
        reason: of a cancel, or the limit that was over.
    """

    state: str = "completed"
    artifacts: list[DownloadedArtifact] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    events: list[TaskEvent] = field(default_factory=list)
    streams: dict[str, list[Any]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    steps: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: BaseException | None = None
    message: str | None = None
    error_code: str | None = None
    reason: str | None = None

    def text(self) -> str:
        """Return the artifacts as text, one after another on lines of their own; empty when there is none."""
        return TaskResult(_TASK, self.artifacts).text

    def json(self) -> Any:
        """Return what the one artifact holds as JSON; of several, a list of what each holds.

        Raises:
            ArtifactError: there is no artifact, or it is not JSON.
        """
        return TaskResult(_TASK, self.artifacts).json()


def run_handler(  # noqa: PLR0913 - what a task may bring
    handler: Callable[..., object],
    parts: object = None,
    *,
    card: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    stream: bool | None = None,
    steps: dict[str, Any] | None = None,
    cancel_after: float | None = None,
    cancel_reason: str | None = None,
    strict_results: bool = False,
    timeout: float = 30.0,
    cancel_grace: float = 5.0,
    answers: Sequence[Any] | Mapping[str, Any] | None = None,
) -> HandlerRun:
    """Call a handler with a task as a worker does, and return what came of it.

    What the handler raises is in the run, not raised. What needs other agents is not here: `LocalStack` has it.

    Args:
        handler: as in `AgentInstanceOptions`.
        parts: as for `TaskClient.send_message`; a bare text is one text part.
        card: the agent's card: its inputs, outputs and streams are checked.
        metadata: of the task.
        stream: whether streams are negotiated; None: when the card declares any.
        steps: what runs before this one stored under the names of their steps.
        cancel_after: seconds from the handler's call to its cancel; 0: at once. None: it is not cancelled.
        cancel_reason: why.
        strict_results: a result of an unknown shape fails the task.
        timeout: the longest that the run may take, in seconds; then it fails with ``timeout``.
        cancel_grace: seconds that a handler has to return after its cancel; then it is given up.
        answers: to what the handler asks with `ctx.ask`: a list in the order of its questions, or a dict by their ids.
            What has no answer is at once a question that nobody answered in time.

    Raises:
        ValueError, TypeError: the handler, the card, a part or a step is none; an answer does not fit its question.
        TimeoutError: the run did not end, which is a fault of this library.
    """
    options = AgentInstanceOptions(agent_name="tested", handler=handler, card=card, strict_results=strict_results)
    given = GivenAnswers(answers)
    run = _Run(
        plan(options, Entropy()),
        strict_results=strict_results,
        timeout=timeout,
        cancel_grace=cancel_grace,
        answers=given,
    )
    start = run.start_of(parts, metadata or {}, stream=stream)
    try:
        run.begin(start, steps or {})
        if cancel_after is not None:
            run.cancel(cancel_after, cancel_reason)
        run.wait(timeout + cancel_grace + _SLACK)
    finally:
        run.close()
    if given.misfit is not None:
        raise given.misfit
    return run.told()


class _Run:
    """One run on a worker's engine, with a desk in place of the hub."""

    def __init__(
        self, plan: InstancePlan, *, strict_results: bool, timeout: float, cancel_grace: float, answers: GivenAnswers
    ) -> None:
        self._plan = plan
        self._result = HandlerRun()
        self._begun = threading.Event()
        self._clock = Clock()
        self._desk = Desk(_TASK, plan.agent_name, max_runtime=timeout, clock=self._clock, answers=answers)
        settings = WorkerSettings(
            agent_name=plan.agent_name,
            instance_id=plan.instance_id,
            strict_results=strict_results,
            card=plan.declared,
            on_raised=self._raised,
        )
        self._engine = Engine(
            settings,
            replace(
                plan.handler, function=partial(self._call, plan.handler), takes_context=True, context_by_keyword=False
            ),
            self._desk,
            task_client=None,
            middleware=(),
            streams=self._desk,
            parked=self._nobody_asks,
            clock=self._clock,
            entropy=Entropy(),
        )
        self._engine.use(Numbers(cancel_grace=cancel_grace, expire_grace=cancel_grace))

    def start_of(self, parts: object, metadata: dict[str, Any], *, stream: bool | None) -> bytes:
        """Return the task's content as a hub would make it."""
        travelling = travelling_parts(parts, inline_limit=INLINE_LIMIT, keep=self._desk.keep)
        return encode(
            StartBody(
                agent_name=self._plan.agent_name,
                owner_id=_OWNER,
                org_id=_OWNER,
                request_parts=msgspec.Raw(encode(travelling)),
                caller_claims={"sub": _OWNER},
                has_stream=bool(self._plan.declared.streams) if stream is None else stream,
                metadata=metadata,
            )
        )

    def begin(self, start: bytes, steps: dict[str, Any]) -> None:
        """Offer the task, with what runs before stored."""
        self._desk.know(steps)
        self._engine.start()
        self._engine.intake.offer(self._desk.offer(start))

    def cancel(self, seconds: float, reason: str | None) -> None:
        """Cancel the run so long after the handler was called, unless it is over."""
        while not self._desk.over.is_set() and not self._clock.wait(self._begun, _LOOK):
            pass
        if not self._clock.wait(self._desk.over, seconds):
            self._engine.endings.cancel(self._key, reason)

    def wait(self, timeout: float) -> None:
        """Wait for the end.

        Raises:
            TimeoutError: it did not come.
        """
        if not self._clock.wait(self._desk.over, timeout):
            raise TimeoutError(f"the run is not over after {timeout} s")

    def close(self) -> None:
        """End the parts in a worker's order."""
        engine, deadline = self._engine, Deadline(_SLACK, self._clock)
        engine.stop_watching()
        engine.executor.shutdown(wait=False)
        engine.publisher.stop(Deadline(0, self._clock), deadline)
        engine.streams.close(deadline)
        engine.loop.close(deadline)
        engine.join_watches(deadline.remaining())
        engine.running.close()
        engine.executor.join(deadline.within(1.0))

    def told(self) -> HandlerRun:
        """Return the run, whole."""
        result, outcome = self._result, self._desk.outcome
        result.steps = self._desk.stored()
        result.events = [TaskEvent.of(raw) for raw in self._desk.events()]
        for event in result.events:
            if event.artifact_ref is not None:
                result.artifacts.append(download_artifact(event.artifact_ref, self._desk))
            elif event.status == "warning" and event.message is not None:
                result.warnings.append(event.message)
            elif event.type == "question" and event.text is not None:
                result.questions.append(event.text)
            elif event.stream_event == "stream_started":
                self._read_streams(event)
        if outcome is not None:
            result.state, result.message = outcome.state, outcome.error
            result.error_code, result.reason = outcome.error_code, outcome.reason
        return result

    def _read_streams(self, started: TaskEvent) -> None:
        for stream_id, about in (started.streams or {}).items():
            written = self._result.streams.setdefault(started.declared_stream or stream_id, [])
            written.extend(self._desk.streamed(about["channel"]))

    @property
    def _key(self) -> tuple[str, int]:
        return (_TASK, 1)

    def _call(self, handler: Handler, task: StartTaskMessage, ctx: TaskContext) -> object:
        """Call the handler; each report is noted, for of those that follow each other closely only the last travels."""
        ctx.report_status = partial(self._note_status, ctx.report_status)
        ctx.report_progress = partial(self._note_progress, ctx.report_progress)
        self._begun.set()
        return handler(task, ctx)

    def _note_status(self, report: Callable[[str], None], message: str) -> None:
        report(message)
        self._result.statuses.append(message)

    def _note_progress(self, report: Callable[..., None], fraction: float, message: str | None = None) -> None:
        report(fraction, message)
        self._result.progress.append(fraction)
        if message is not None:
            self._result.statuses.append(message)

    def _raised(self, error: BaseException) -> None:
        self._result.error = error

    def _nobody_asks(self) -> None:
        """Let a run step aside: there is no hub to hear of its slot."""
