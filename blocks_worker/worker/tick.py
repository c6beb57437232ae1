"""A thread that does nothing but come round: when it comes late, no thread of the process got its turn."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Periodic
from blocks_worker.observability import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.worker.counters import Counters

_logger = logging.getLogger(__name__)

#: Seconds between two turns, and by how many one has to be late for it to be told.
INTERVAL = 0.5
LATE = 1.0
#: Turns in which nothing ran, after which it comes round less often: a worker without tasks is to cost nothing.
QUIET_TURNS = 20
QUIET_INTERVAL = 2.5


def pause_after(quiet: int) -> float:
    """Return the seconds until the next turn after so many turns, one after another, in which nothing ran."""
    return INTERVAL if quiet < QUIET_TURNS else QUIET_INTERVAL


class Tick:
    """Measure its own lateness: a handler that is slow makes nothing late, one that holds the interpreter does.

    The line that tells of it has the processor's seconds too: about as many, and one thread kept all others from
    running; few, and the process was suspended, got no processor, or a call held the interpreter while it waited.
    """

    def __init__(
        self,
        *,
        look: Callable[[], object],
        is_busy: Callable[[], bool],
        clock: Clock,
        entropy: Entropy,
        counters: Counters,
        late: float = LATE,
    ) -> None:
        self._look = look
        self._is_busy = is_busy
        self._clock = clock
        self._counters = counters
        self._late = late
        self._due = float("inf")
        self._quiet = 0
        self._worked = 0.0
        #: For how many seconds it came late in all.
        self.starved_seconds = 0.0
        self._periodic = Periodic("tick", self._turn, INTERVAL, entropy, jitter=0.0)

    def start(self) -> None:
        """Begin."""
        self._rest(INTERVAL)
        self._periodic.start()

    def stop(self) -> None:
        """End."""
        self._due = float("inf")
        self._periodic.stop()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it came."""
        return self._periodic.join(timeout)

    def behind(self) -> float:
        """Return for how many seconds it is late."""
        return max(0.0, self._clock.monotonic() - self._due)

    def _turn(self) -> float:
        late = self.behind()
        worked = usage.cpu_seconds() - self._worked
        if late >= self._late:
            self.starved_seconds += late
            self._counters.count("process_starved")
            _logger.warning("process_starved", extra={"seconds": round(late, 2), "cpu_seconds": round(worked, 2)})
        self._quiet = 0 if self._is_busy() else self._quiet + 1
        pause = pause_after(self._quiet)
        try:
            self._look()
        finally:
            self._rest(pause)
        return pause

    def _rest(self, pause: float) -> None:
        if self._due < float("inf") or not self._worked:
            self._due = self._clock.monotonic() + pause
        self._worked = usage.cpu_seconds()
