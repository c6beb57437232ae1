"""Draining: take nothing new, let runs finish, ask the rest to stop, end pipes, give back what still runs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Deadline
from blocks_worker.observability.stacks import log_stacks
from blocks_worker.worker.pipes import DRAIN_FLUSH
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.dispatcher import Dispatcher
    from blocks_worker.worker.heartbeat import Beat
    from blocks_worker.worker.pipes import Pipes
    from blocks_worker.worker.presence import Presence
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.running import Running

_logger = logging.getLogger(__name__)


class Drain:
    """Empty the slots by a deadline; heartbeats, and so leases, go on all the while."""

    #: Seconds that a run has after it was asked to stop.
    GRACE = 5.0

    def __init__(
        self,
        *,
        running: Running,
        dispatcher: Dispatcher,
        beat: Beat,
        presence: Presence,
        pipes: Pipes,
        end: Callable[[Run, Ending], bool],
        tasks_of_threads: Callable[[], dict[int, str]],
        clock: Clock,
    ) -> None:
        self._running = running
        self._dispatcher = dispatcher
        self._beat = beat
        self._presence = presence
        self._pipes = pipes
        self._end = end
        self._tasks_of_threads = tasks_of_threads
        self._clock = clock
        self._hurry = threading.Event()
        self._began: float | None = None
        self._took: float | None = None

    def hurry(self) -> None:
        """Wait for no run any longer."""
        self._hurry.set()
        self._running.wake_waiters()

    @property
    def seconds(self) -> float:
        """For how long it lasts, or lasted; 0 before it began."""
        if self._took is not None or self._began is None:
            return self._took or 0.0
        return self._clock.monotonic() - self._began

    def run(self, timeout: float) -> None:
        """Drain; runs have `timeout` seconds to finish, and then the grace to stop."""
        self._began = self._clock.monotonic()
        _logger.info("draining", extra={"active": len(self._running.active_tasks()), "timeout": timeout})
        self._dispatcher.close()
        self._beat.draining = True
        self._presence.wake()
        if not self._running.wait_idle(Deadline(timeout, self._clock), self._hurry):
            if timeout > 0 and not self._hurry.is_set():
                log_stacks("drain timeout", self._tasks_of_threads())
            for run in (*self._running.busy(), *self._running.waiting()):
                run.give_back()
            self._running.wait_idle(Deadline(self.GRACE, self._clock))
        self._end_pipes()
        for run in self._running.held():
            # Its partial result is not wanted: the task starts anew elsewhere, with no attempt counted.
            if run.ending is None and self._end(run, Ending("released")):
                _logger.info("given_back", extra={"task": run.task_id})
        self._took = self.seconds

    def _end_pipes(self) -> None:
        """Give back the pipes whose handlers have returned: they lived as long as other runs had their time."""
        for run in self._running.open_pipes():
            if run.give_back():
                self._pipes.give_back(run)
        self._pipes.join(Deadline(DRAIN_FLUSH, self._clock))
