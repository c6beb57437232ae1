"""Attempts, and the pauses between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from blocks_worker.concurrency import Clock
from blocks_worker.context.task import TaskContext
from blocks_worker.errors import TaskCancelledError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Waits(Clock):
    """A clock that notes what is waited for, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Note it."""
        self.seconds.append(timeout or 0.0)
        return event.is_set()


@pytest.fixture
def clock() -> Waits:
    """Return such a clock."""
    return Waits()


@pytest.fixture
def ctx(clock: Waits) -> TaskContext:
    """Return a context that waits by it."""
    return TaskContext(task_id="x", clock=clock)


def tried(ctx: TaskContext, work: Callable[[int], None], **how: Any) -> list[int]:
    """Have work tried; return the numbers of the attempts."""
    numbers = []
    for attempt in ctx.retrying(**how):
        with attempt:
            numbers.append(attempt.number)
            work(attempt.number)
    return numbers


def failing(error: BaseException, *, below: int = 100) -> Callable[[int], None]:
    """Return work that raises this in each attempt below that number."""

    def work(number: int) -> None:
        if number < below:
            raise error

    return work


def test_it_is_tried_until_it_works(ctx: TaskContext, clock: Waits) -> None:
    """Failures of the kind are let go, the pauses double, and the loop ends with the first success."""
    assert tried(ctx, failing(OSError("not yet"), below=4), tries=5, pause=1.0, on=OSError) == [1, 2, 3, 4]
    assert clock.seconds == [1.0, 2.0, 4.0]


def test_the_last_failure_comes_through(ctx: TaskContext, clock: Waits) -> None:
    """Without another try left, the handler sees the exception, and no pause is made for nothing."""
    with pytest.raises(OSError, match="no disk"):
        tried(ctx, failing(OSError("no disk")), tries=2, on=OSError)

    assert clock.seconds == [1.0]


@pytest.mark.parametrize("error", [LookupError("other"), TaskCancelledError("x"), KeyboardInterrupt()])
def test_other_exceptions_come_through_at_once(ctx: TaskContext, clock: Waits, error: BaseException) -> None:
    """Only what was named is tried again; what ends a task never is."""
    with pytest.raises(type(error)):
        tried(ctx, failing(error), on=(OSError, TaskCancelledError))

    assert clock.seconds == []


def test_a_task_that_is_to_stop_is_not_tried_again(ctx: TaskContext) -> None:
    """A cancel ends the pause, and with it the attempts."""
    numbers = []

    def work(number: int) -> None:
        numbers.append(number)
        ctx.cancel_event.set()
        raise OSError

    with pytest.raises(TaskCancelledError):
        tried(ctx, work, tries=5)
    assert numbers == [1]


def test_no_try_is_refused(ctx: TaskContext) -> None:
    """Zero tries would do nothing in silence."""
    with pytest.raises(ValueError, match="tries=0"):
        next(iter(ctx.retrying(tries=0)))
