"""What a handler holds of its task: the context, whole in itself, so that a test makes one by hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from blocks_worker.concurrency import Clock
from blocks_worker.context.steps import LocalSteps
from blocks_worker.errors import TaskCancelledError, TaskFinishedError
from blocks_worker.observability.logs import TaskLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from blocks_worker.context.shapes import AskConsumer, CallAgent, DoStep, PublishArtifact, ReportProgress


def _say_nothing(*_said: Any, **_more: Any) -> None:
    """Let a handler report in a test where nobody listens."""


def _not_here(*_given: Any, **_more: Any) -> NoReturn:
    raise RuntimeError("not available in this context")


class Attempt:
    """One try of several: a block that raises what is tried again is left without an exception, but in the last.

    Attributes:
        number: 1 for the first.
        error: what the block raised and is tried again.
    """

    def __init__(
        self, number: int, *, is_last: bool, on: type[BaseException] | tuple[type[BaseException], ...]
    ) -> None:
        self.number = number
        self.is_last = is_last
        self.error: BaseException | None = None
        self._on = on

    def __enter__(self) -> Attempt:  # noqa: PYI034 - Self is of a later Python
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if error is None or self.is_last or not isinstance(error, self._on):
            return False
        if isinstance(error, (TaskCancelledError, TaskFinishedError)):
            return False
        self.error = error
        return True


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
        call: ``call(agent, text_or_parts, timeout=60, **options)``: ask another agent, with the options of
            ``client.run``, return its result; the slot is given back
            meanwhile, and the sub-task ends with this one. Raises `TaskFailedError`, or `TimeoutError` when it is not
            over in time; it is cancelled then. Not for coroutines: it would hold up the others.
        step: ``step(name, fn)``: call `fn`, store what it returns under the name, and return that; where something is
            stored, by this run or one before, return it and call nothing. It is JSON of at most 64 KiB, and comes back
            as JSON gives it. Raises `StepError` when it cannot be stored. A loop puts its index into the name. Not for
            coroutines: ``await asyncio.to_thread(ctx.step, name, fn)``.
        task_client: asks for sub-tasks of this task without waiting for them.
        ask: ``ask(question, schema=None, timeout=None, ask_id=None)``: put a question to whoever sent the task and
            return the answer, any JSON that fits the schema; the slot is given back meanwhile. It is stored: a run that
            comes after this one and asks the same gets it at once. `ask_id` names the question, ``ask-1``, ``ask-2``…
            in order of the calls unless you do; one is open at a time. Raises `AskTimeoutError` when nobody answered
            within `timeout` seconds, 600 unless told otherwise, and `TaskCancelledError` when the task is to stop.
            Not for coroutines.
        wait_while_paused: return when the consumer wants the task to go on, and whether he had it wait; the slot is
            given back meanwhile. Raises `TaskCancelledError` when the task is to stop.
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
    publish_artifact: PublishArtifact = field(default=_not_here, repr=False)
    cancel_event: threading.Event = field(default_factory=threading.Event, repr=False)
    task_client: Any = field(default=None, repr=False)
    report_progress: ReportProgress = field(default=_say_nothing, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    attempt: int = 1
    idempotency_key: str = ""
    wait_while_paused: Callable[[], bool] = field(default=lambda: False, repr=False)
    paused: Callable[[], bool] = field(default=lambda: False, repr=False)
    call: CallAgent = field(default=_not_here, repr=False)
    ask: AskConsumer = field(default=_not_here, repr=False)
    step: DoStep = field(default=_not_here, repr=False)
    expired: Callable[[], bool] = field(default=lambda: False, repr=False)
    clock: Clock = field(default_factory=Clock, repr=False)

    def __post_init__(self) -> None:
        """Have a task's key be its id unless told otherwise, and keep its steps here."""
        if self.step is _not_here:
            self.step = LocalSteps()
        self.idempotency_key = self.idempotency_key or self.task_id

    @cached_property
    def log(self) -> TaskLogger:
        """A logger whose every line carries the task's id."""
        return TaskLogger(self.task_id)

    @property
    def is_cancelled(self) -> bool:
        """Tell whether the task is to stop."""
        return self.cancel_event.is_set()

    @property
    def is_expired(self) -> bool:
        """Tell whether it is to stop because its time is over; test this one first."""
        return self.expired()

    @property
    def is_paused(self) -> bool:
        """Tell whether the consumer wants the task to wait: then call `wait_while_paused`."""
        return self.paused()

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

    def retrying(
        self, tries: int = 3, pause: float = 1.0, on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    ) -> Iterator[Attempt]:
        """Yield attempts, each for one ``with``: what the block raises is let go, but for the last attempt.

        ::

            for attempt in ctx.retrying(tries=3, pause=1.0, on=OSError):
                with attempt:
                    fetch()

        The loop ends with the first block that raises nothing. Pauses double, and a task that is to stop has no more.

        Args:
            tries: how often at most.
            pause: seconds after the first failure.
            on: what is tried again; anything else goes through, as do the exceptions by which a task ends.
        """
        if tries < 1:
            raise ValueError(f"tries={tries} has to be 1 at least")
        for number in range(1, tries + 1):
            attempt = Attempt(number, is_last=number == tries, on=on)
            yield attempt
            if attempt.error is None:
                return
            self.log.warning("attempt %d of %d failed: %r", number, tries, attempt.error)
            self.sleep(pause * 2 ** (number - 1))

    def stream_or_none(self, **given: Any) -> Any:
        """Return what `create_stream` returns, or None when no stream is negotiated."""
        return self.create_stream(**given) if self.has_stream else None

    def remaining(self) -> float | None:
        """Return the seconds left for this run, never below zero; None when there is no end."""
        return None if self.deadline is None else max(0.0, self.deadline - self.clock.monotonic())
