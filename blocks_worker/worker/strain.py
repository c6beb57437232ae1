"""Why an instance takes nothing new for now: its process is short of descriptors, memory or threads."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.observability import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.executor import SlotExecutor

_logger = logging.getLogger(__name__)

#: Seconds for which a look is believed.
LOOK = 1.0
#: Share of the descriptors that may be open.
DESCRIPTORS = 0.8
#: Threads that are nobody's of ours; a handler that leaves some behind each time gets here.
FOREIGN_THREADS = 500


class Strain:
    """Look at the process, at most once a second; any thread may ask."""

    def __init__(
        self, *, executor: SlotExecutor, foreign_threads: Callable[[], int], max_rss: int | None, clock: Clock
    ) -> None:
        self._executor = executor
        self._foreign_threads = foreign_threads
        self._max_rss = max_rss
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """What it is short of: `threads_hung`, `threads_leaked`, `descriptors` or `memory`; None when it has enough."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._looked_at >= LOOK:
                self._looked_at = now
                self._turn(self._seen())
            return self._reason

    @property
    def is_strained(self) -> bool:
        """Whether nothing new is to come."""
        return self.reason is not None

    @property
    def is_worn_out(self) -> bool:
        """Whether only another process can help: more threads hang in handlers than are replaced."""
        return self._executor.stuck > 0

    def _turn(self, reason: str | None) -> None:
        if reason == self._reason:
            return
        if reason is None:
            _logger.info("relieved", extra={"reason": self._reason})
        else:
            _logger.warning("strained", extra={"reason": reason, **self._figures()})
        self._reason = reason

    def _seen(self) -> str | None:
        if self.is_worn_out:
            return "threads_hung"
        if self._foreign_threads() > FOREIGN_THREADS:
            return "threads_leaked"
        limit, opened = usage.descriptor_limit(), usage.open_descriptors()
        if limit is not None and opened is not None and opened >= DESCRIPTORS * limit:
            return "descriptors"
        resident = None if self._max_rss is None else usage.resident_bytes()
        return "memory" if self._max_rss is not None and (resident or 0) > self._max_rss else None

    def _figures(self) -> dict[str, int | None]:
        return {
            "descriptors": usage.open_descriptors(),
            "resident_bytes": usage.resident_bytes(),
            "foreign_threads": self._foreign_threads(),
            "stuck_slots": self._executor.stuck,
        }
