"""Where those wait who have said more than the hub has answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import PublishTimeoutError, TaskCancelledError
from blocks_worker.worker.waiters import Waiters

if TYPE_CHECKING:
    import threading

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.run import Run

#: Seconds that an emitter waits for room.
PUBLISH_TIMEOUT = 30.0


class Room:
    """Let emitters wait until their run's outbox has room again; the lock is the publisher's, and held in each verb."""

    def __init__(self, lock: threading.Lock, clock: Clock) -> None:
        self._freed = Waiters(lock)
        self._clock = clock

    def wait(self, run: Run) -> None:
        """Wait until there is room, or the run may not speak any more.

        Raises:
            PublishTimeoutError: there was none for too long.
            TaskCancelledError: the task is to stop.
        """
        limit = self._clock.monotonic() + PUBLISH_TIMEOUT
        while run.outbox.is_full and run.outbox.is_open:
            if run.cancel_event.is_set():
                raise TaskCancelledError(run.task_id)
            left = limit - self._clock.monotonic()
            if left <= 0:
                raise PublishTimeoutError(f"the hub has answered nothing for {PUBLISH_TIMEOUT:.0f} s")
            self._freed.wait(min(left, 1.0))

    def freed(self) -> None:
        """Let all who wait look again."""
        self._freed.wake()
