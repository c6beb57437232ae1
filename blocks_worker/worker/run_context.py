"""The context of a real run: the members of `TaskContext` bound to the parts of the worker that do them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.context.events import TaskEvents, download_input_artifact
from blocks_worker.context.task import TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.protocol.events import ArtifactRef, EventBody
    from blocks_worker.worker.calls import Calls
    from blocks_worker.worker.publisher import Publisher
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.run_steps import RunSteps
    from blocks_worker.worker.voice import Voice


class RunEmitter:
    """Carry the events of one run to the publisher."""

    def __init__(self, publisher: Publisher, run: Run) -> None:
        self._publisher = publisher
        self._run = run

    def emit(self, event: EventBody) -> None:
        """Send an event."""
        self._publisher.emit(self._run, event)
        if event.type == "artifact" and event.output_id is not None:
            self._run.published.add(event.output_id)

    def emit_latest(self, event: EventBody) -> None:
        """Send a status at its pace."""
        self._publisher.emit_latest(self._run, event)


class _RunContext(TaskContext):
    """Make the client for calls to other agents when it is asked for: most handlers call nobody.

    `voice` speaks for the run in the form of a published event, for who replaces the handler.
    """

    voice: Voice | None = None
    _make_client: Callable[[], Any] | None = None

    @property
    def task_client(self) -> Any:
        """A client with this instance's identity; what it asks for are sub-tasks of this task."""
        return self._make_client() if self._make_client is not None else None

    @task_client.setter
    def task_client(self, _given: Any) -> None:
        """Leave aside what the dataclass would store."""


def context_of(  # noqa: PLR0913 - all that a handler is lent
    run: Run,
    task: StartTaskMessage,
    events: TaskEvents,
    *,
    fetch: Callable[[ArtifactRef], bytes],
    create_stream: Callable[..., Any],
    wait_while_paused: Callable[[], bool],
    calls: Calls,
    step: RunSteps,
    clock: Clock,
) -> TaskContext:
    """Return what the handler of this run is given."""
    context = _RunContext(
        task_id=run.task_id,
        has_stream=task.has_stream,
        consumer_public_key=task.consumer_public_key,
        report_status=events.report_status,
        report_progress=events.report_progress,
        create_stream=create_stream,
        download_input_artifact=partial(download_input_artifact, fetch=fetch),
        publish_artifact=events.publish_artifact,
        cancel_event=run.cancel_event,
        metadata=task.metadata,
        deadline=run.deadline,
        attempt=task.attempt,
        wait_while_paused=wait_while_paused,
        paused=lambda: run.is_paused,
        call=partial(calls.call, run),
        step=step,
        expired=lambda: run.is_expired,
        clock=clock,
    )
    context.voice = run.voice
    context._make_client = partial(calls.client, run)  # noqa: SLF001 - the class is this file's own
    return context
