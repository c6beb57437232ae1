"""Threads that handlers leave behind: counted, and told with the task behind which there were more."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import ServiceThread
from blocks_worker.worker.middleware.base import Middleware

if TYPE_CHECKING:
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.run import Ending, Run

_logger = logging.getLogger(__name__)

#: The first number of threads that is told; the next is twice as many.
FIRST_TOLD = 32


def foreign_threads() -> int:
    """Return how many threads live that were not made by us."""
    return sum(not ServiceThread.made(thread) for thread in threading.enumerate())


class ThreadCensus(Middleware):
    """Compare the threads behind each run with the most there ever were.

    A library that keeps a pool makes it once; what grows with every task is a leak. Which of several runs
    leaves them behind cannot be seen: the one is told that ended last.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lock = threading.Lock()
        self._most = foreign_threads()
        self._tell_at = self._most + FIRST_TOLD
        #: The most threads that there ever were when they were looked at: below it no library has more than it had.
        self._looked_at = 0

    def after_run(self, run: Run, ending: Ending) -> None:  # noqa: ARG002 - the base's signature
        """Count what is more now than ever."""
        if threading.active_count() <= self._looked_at:
            return
        now, self._looked_at = foreign_threads(), threading.active_count()
        with self._lock:
            more, self._most = now - self._most, max(now, self._most)
            is_told = now >= self._tell_at
            if is_told:
                self._tell_at = 2 * now
        if more > 0:
            self._counters.count("threads_leaked", more)
        if is_told:
            _logger.warning("threads_leaked", extra={"task": run.task_id, "more": more, "foreign_threads": now})
