"""How a handler waits for the resume of its task, without a slot meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocks_worker.errors import TaskCancelledError
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.lifecycle import PAUSED, RESUMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.worker.executor import SlotExecutor
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.running import Running


class Pauses:
    """Let runs wait: their slots are others' until they go on, which needs a free one."""

    def __init__(self, *, running: Running, executor: SlotExecutor, parked: Callable[[], None]) -> None:
        self._running = running
        self._executor = executor
        #: The hub is to hear of it: what is parked counts as no slot.
        self._parked = parked

    def wait(self, run: Run, emit: Callable[[EventBody], None]) -> bool:
        """Wait while the task is paused; tell whether it was.

        Raises:
            TaskCancelledError: it is to stop.
            TaskFinishedError: it is over.
        """
        if not run.is_paused and not run.cancel_event.is_set():
            return False
        if not run.cancel_event.is_set():
            emit(EventBody(type="system", status=PAUSED))
            self._wait(run)
        if run.cancel_event.is_set():
            raise TaskCancelledError(run.task_id)
        emit(EventBody(type="system", status=RESUMED))
        return True

    def _wait(self, run: Run) -> None:
        while run.is_paused and not run.cancel_event.is_set():
            # It may be paused again while it waits for its slot.
            with self.without_slot(run):
                run.wait_resumed()

    @contextmanager
    def without_slot(self, run: Run, *, asks: bool = False) -> Iterator[None]:
        """Let others have the slot inside the block; behind it the run has one again, or is to stop.

        `asks`: it waits for an answer.
        """
        run.on_cancel(self._running.wake_waiters)
        self._running.park(run, asks=asks)
        self._executor.step_aside(run)
        self._parked()
        try:
            yield
        finally:
            self._running.wait_for_slot(run)
            self._parked()
