"""The context of a real run: the members of `TaskContext` bound to the parts of the worker that do them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from blocks_worker.context.events import TaskEvents, download_input_artifact
from blocks_worker.context.task import TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.protocol.events import ArtifactRef, EventBody
    from blocks_worker.worker.publisher import Publisher
    from blocks_worker.worker.run import Run


class RunEmitter:
    """Carry the events of one run to the publisher."""

    def __init__(self, publisher: Publisher, run: Run) -> None:
        self._publisher = publisher
        self._run = run

    def emit(self, event: EventBody) -> None:
        """Send an event."""
        self._publisher.emit(self._run, event)

    def emit_latest(self, event: EventBody) -> None:
        """Send a status at its pace."""
        self._publisher.emit_latest(self._run, event)


class _RunContext(TaskContext):
    """Make the client for calls to other agents with its first use: most handlers call nobody."""

    _make_client: Callable[[], object] | None = None

    @property
    def task_client(self) -> Any:
        """A client with this instance's identity."""
        if self._make_client is None:
            raise RuntimeError("this worker was given no client for calls to other agents")
        return self._make_client()

    @task_client.setter
    def task_client(self, _given: Any) -> None:
        """Leave aside what the dataclass would store."""


def context_of(
    run: Run,
    task: StartTaskMessage,
    events: TaskEvents,
    *,
    fetch: Callable[[ArtifactRef], bytes],
    task_client: Callable[[], object] | None,
    clock: Clock,
) -> TaskContext:
    """Return what the handler of this run is given."""
    context = _RunContext(
        task_id=run.task_id,
        has_stream=task.has_stream,
        consumer_public_key=task.consumer_public_key,
        report_status=events.report_status,
        report_progress=events.report_progress,
        create_stream=_no_stream,
        download_input_artifact=partial(download_input_artifact, fetch=fetch),
        publish_artifact=events.publish_artifact,
        cancel_event=run.cancel_event,
        metadata=task.metadata,
        deadline=run.deadline,
        attempt=task.attempt,
        expired=lambda: run.is_expired,
        clock=clock,
    )
    context._make_client = task_client  # noqa: SLF001 - the class is this file's own
    return context


def _no_stream(**_asked: Any) -> NoReturn:
    raise RuntimeError("no stream is negotiated for this task")
