"""What a handler holds of its task: the context, whole in itself, so that a test makes one by hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from blocks_worker.concurrency import Clock
from blocks_worker.errors import TaskCancelledError
from blocks_worker.observability.logs import TaskLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.protocol.events import ArtifactRef


def _say_nothing(*_said: Any, **_more: Any) -> None:
    """Let a handler report in a test where nobody listens."""


def _not_here(*_given: Any, **_more: Any) -> NoReturn:
    raise RuntimeError("not available in this context")


@dataclass
class TaskContext:
    """Say what a run is about, speak for it, and tell when it is to stop.

    ``TaskContext(task_id="x")`` works in a test: reports go nowhere, what needs a hub raises RuntimeError.
    Every sending member raises `TaskFinishedError` once the task is over.

    Attributes:
        report_status: say in words how it goes; at most one text a second travels, the newest, and the
            last one always before the terminal.
        report_progress: say a fraction from 0 to 1, and a text if you like, at the same pace.
        publish_artifact: hand over an output during the run; returns its `ArtifactRef`.
        download_input_artifact: return the bytes of an input part's artifact.
        create_stream: open a negotiated stream.
        cancel_event: set on cancel, at a time limit and when the lease is lost.
        deadline: when the run ends at the latest, on the monotonic clock; None when there is no end.
        attempt: how many runs were started, this one included.
        idempotency_key: the same over all runs of the task: hand it to whatever must act only once.
    """

    task_id: str
    has_stream: bool = False
    consumer_public_key: str | None = None
    report_status: Callable[[str], None] = field(default=_say_nothing, repr=False)
    create_stream: Callable[..., Any] = field(default=_not_here, repr=False)
    download_input_artifact: Callable[[Any], bytes] = field(default=_not_here, repr=False)
    publish_artifact: Callable[..., ArtifactRef] = field(default=_not_here, repr=False)
    cancel_event: threading.Event = field(default_factory=threading.Event, repr=False)
    task_client: Any = field(default=None, repr=False)
    report_progress: Callable[..., None] = field(default=_say_nothing, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    attempt: int = 1
    idempotency_key: str = ""
    expired: Callable[[], bool] = field(default=lambda: False, repr=False)
    clock: Clock = field(default_factory=Clock, repr=False)
    log: TaskLogger = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Bind the logger; a task's key is its id unless told otherwise."""
        self.idempotency_key = self.idempotency_key or self.task_id
        self.log = TaskLogger(self.task_id)

    @property
    def is_cancelled(self) -> bool:
        """Tell whether the task is to stop."""
        return self.cancel_event.is_set()

    @property
    def is_expired(self) -> bool:
        """Tell whether it is to stop because its time is over; test this one first."""
        return self.expired()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the task is to stop; tell whether it is."""
        return self.clock.wait(self.cancel_event, seconds)

    def sleep(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            TaskCancelledError: the task is to stop.
        """
        if self.wait(seconds):
            raise TaskCancelledError(self.task_id)

    def check_cancelled(self) -> None:
        """Go on only while the task is to go on.

        Raises:
            TaskCancelledError: it is to stop.
        """
        if self.is_cancelled:
            raise TaskCancelledError(self.task_id)

    def remaining(self) -> float | None:
        """Return the seconds left for this run, never below zero; None when there is no end."""
        return None if self.deadline is None else max(0.0, self.deadline - self.clock.monotonic())
