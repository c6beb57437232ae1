"""No run for ever: the limit of a run, the grace after a cancel, and what becomes of a thread that ignores both."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.protocol.lifecycle import FORCED
from blocks_worker.worker.middleware.base import Middleware
from blocks_worker.worker.run import TERMINATED, Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.deadlines import Deadlines, Entry
    from blocks_worker.worker.executor import SlotExecutor
    from blocks_worker.worker.run import Run, RunKey
    from blocks_worker.worker.running import Running

_logger = logging.getLogger(__name__)


class TimeLimit(Middleware):
    """End runs that take too long, and give up their threads.

    At its limit a request is reported failed at once and its cancel event is set; after a cancel, and when the
    time of a pipe is over, a run has a grace. The limit of a pipe is watched until its task ends, whether its
    handler has returned or not. A thread that is still at work when its grace is over is abandoned and its
    slot replaced; one that waits for a coroutine is let go instead.
    """

    def __init__(  # noqa: PLR0913 - whoever a run that takes too long has to be taken from
        self,
        *,
        deadlines: Deadlines,
        executor: SlotExecutor,
        running: Running,
        end: Callable[[Run, Ending], bool],
        run_out: Callable[[Run, str], None],
        clock: Clock,
        counters: Counters,
        abandon_coroutine: Callable[[Run], bool] = lambda _run: False,
        cancel_grace: float = 30.0,
        terminate_grace: float = 5.0,
        expire_grace: float = 30.0,
    ) -> None:
        self._deadlines = deadlines
        self._executor = executor
        self._running = running
        self._end = end
        self._run_out = run_out
        self._clock = clock
        self._counters = counters
        self._abandon_coroutine = abandon_coroutine
        self.cancel_grace = cancel_grace
        self.terminate_grace = terminate_grace
        self.expire_grace = expire_grace
        self._lock = threading.RLock()
        self._limits: dict[RunKey, Entry] = {}

    def before_run(self, run: Run) -> None:
        """Begin to watch the run."""
        with self._lock:
            # Cancelled between the claim and here: the limit must not take the place of the grace.
            if run.deadline is not None and run.grace_ends is None:
                self._watch(run, run.deadline, lambda: self._limit_reached(run))
        if run.stopped_as is not None:
            self.on_cancel(run)

    def on_cancel(self, run: Run) -> None:
        """Give the run its grace, which a later terminate can only shorten; a request whose time is over has none."""
        if run.ending is not None:
            return
        if run.stopped_as is None:
            self._time_out(run)
            return
        grace = self.terminate_grace if run.cancel_reason == TERMINATED else self.cancel_grace
        grace = grace if run.is_cancelled else self.expire_grace
        end = self._clock.monotonic() + grace
        with self._lock:
            if run.grace_ends is None or end < run.grace_ends:
                run.grace_ends = end
                self._watch(run, end, lambda: self._force(run))

    def after_run(self, run: Run, ending: Ending) -> None:
        """Watch no more; of a run that was fenced or expired, watch the thread."""
        self._forget(run)
        if ending.state == "fenced" or run.is_expired:
            self._deadlines.at(self._clock.monotonic() + self.cancel_grace, lambda: self._abandon(run))

    def _watch(self, run: Run, moment: float, act: Callable[[], object]) -> None:
        entry = self._deadlines.at(moment, act)
        with self._lock:
            older = self._limits.get(run.key)
            self._limits[run.key] = entry
        if older is not None:
            self._deadlines.call_off(older)
        if run.ending is not None:  # it ended between the two: nobody would call this off any more
            self._forget(run)

    def _forget(self, run: Run) -> None:
        with self._lock:
            entry = self._limits.pop(run.key, None)
        if entry is not None:
            self._deadlines.call_off(entry)

    def _limit_reached(self, run: Run) -> None:
        self._forget(run)
        self._run_out(run, run.limit)

    def _time_out(self, run: Run) -> None:
        ending = Ending("failed", error="timeout", error_code="timeout", reason=run.limit)
        if self._end(run, ending):
            self._counters.count("runs_expired")

    def _force(self, run: Run) -> None:
        self._forget(run)
        ending = Ending("canceled", reason=FORCED) if run.is_cancelled else Ending("expired", reason=run.limit)
        if self._end(run, ending):
            self._counters.count("runs_forced")
        self._abandon(run)

    def _abandon(self, run: Run) -> None:
        """Give up the thread, if it is still at this run."""
        if not any(busy is run for busy in self._running.busy()):
            return
        if self._abandon_coroutine(run):
            self._counters.count("coroutines_abandoned")
            _logger.warning("coroutine_abandoned", extra={"task": run.task_id})
            return
        replaced = self._executor.abandon(run)
        self._counters.count("threads_abandoned" if replaced else "threads_hung")
        _logger.warning("thread_abandoned", extra={"task": run.task_id, "replaced": replaced})
        if replaced:
            self._running.slot_back(run)
