"""Where runs end: the first ending counts, the hooks hear of it once, and what the hub said about runs is obeyed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.dispatcher import Dispatcher
    from blocks_worker.worker.hooks import Hooks
    from blocks_worker.worker.run import Run, RunKey
    from blocks_worker.worker.running import Running

_logger = logging.getLogger(__name__)

_FENCED = Ending("fenced")


class Endings:
    """End, cancel and fence runs. Safe from any thread.

    `decide` is the publisher's: under its lock exactly one ending of a run is the first.
    """

    def __init__(
        self,
        *,
        decide: Callable[[Run, Ending, Callable[[Run], None] | None], bool],
        running: Running,
        dispatcher: Dispatcher,
        hooks: Callable[[], Hooks],
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._decide = decide
        self._running = running
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._clock = clock
        self._counters = counters

    def end(self, run: Run, ending: Ending, *, leaves: bool = False) -> bool:
        """End a run that way, unless it has ended; tell whether this ending is the one that counts.

        `leaves`: its thread is done with it, so the slot comes back with the ending.
        """
        if not self._decide(run, ending, self._running.slot_back if leaves else None):
            return False
        run.ending = ending
        self._counters.count(f"tasks_{ending.state}")
        self._hooks().after_run(run, ending)
        return True

    def answered(self, key: RunKey) -> None:
        """Hold the task no more: the hub has its ending."""
        self._running.answered(key)

    def fenced(self, key: RunKey) -> None:
        """Stop a run whose task is not ours any more; its thread is asked to return."""
        run = self._running.answered(key)
        if run is None:
            return
        if self._decide(run, _FENCED, None):
            run.ending = _FENCED
            self._counters.count("leases_lost")
            _logger.info("lease_lost", extra={"task": run.task_id, "epoch": run.epoch})
            self._hooks().after_run(run, _FENCED)
        else:
            # Its ending was on the way, and crossed this: either it is recorded or it comes too late.
            _logger.debug("ending_dropped", extra={"task": run.task_id, "epoch": run.epoch})
        run.wake()

    def fence_all(self) -> None:
        """Stop every run: the hub knows none of them any more."""
        for run in self._running.held():
            self.fenced(run.key)

    def cancel(self, key: RunKey, reason: str | None) -> None:
        """Ask a run to stop; if it is not here, its offer is not taken when it comes."""
        run = self._running.find(key)
        if run is None:
            self._dispatcher.cancelled(key, self._clock.monotonic())
        elif run.cancel(reason):
            self._hooks().on_cancel(run)
