"""One thread for all deadlines: a heap of moments and what to do then, no timer a task."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import ServiceThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock

_logger = logging.getLogger(__name__)

#: Dead entries that may lie in the heap before it is swept, when they are also the larger half.
SWEEP = 256


class Entry:
    """One moment; `act` is None once it was called off or done."""

    __slots__ = ("act",)

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act


class Deadlines:
    """Call each act at its moment, unless it was called off. Acts must be short."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._heap: list[tuple[float, int, Entry]] = []
        self._numbers = itertools.count()
        self._dead = 0
        self._looks_at = float("-inf")
        #: When the thread began what it is at, or is to look next; infinity before its start and when it has ended.
        self._due = float("inf")
        self._stopping = False
        self._thread = ServiceThread("deadlines", self._serve)

    def start(self) -> None:
        """Start the thread."""
        self._due = self._clock.monotonic()
        self._thread.start()

    def behind(self) -> float:
        """Return for how many seconds the thread is at one act, or late for the next."""
        return max(0.0, self._clock.monotonic() - self._due)

    def stop(self) -> None:
        """End without calling what is still to come."""
        with self._lock:
            self._stopping = True
            self._due = float("inf")
            self._heap.clear()
            self._changed.notify()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it came."""
        return self._thread.join(timeout)

    def at(self, moment: float, act: Callable[[], object]) -> Entry:
        """Call `act` at that moment of the monotonic clock."""
        entry = Entry(act)
        with self._lock:
            if not self._stopping:
                heapq.heappush(self._heap, (moment, next(self._numbers), entry))
            # A later moment than the one the thread waits for needs no wake-up: that is nearly every task's.
            if moment < self._looks_at:
                self._due = min(self._due, moment)
                self._changed.notify()
        return entry

    def call_off(self, entry: Entry) -> None:
        """Do not call it."""
        with self._lock:
            if entry.act is None:
                return
            entry.act = None
            self._dead += 1
            if self._dead > SWEEP and self._dead * 2 > len(self._heap):
                self._heap = [item for item in self._heap if item[2].act is not None]
                heapq.heapify(self._heap)
                self._dead = 0

    def _serve(self) -> None:
        while True:
            with self._lock:
                act = self._next()
            if act is None:
                return
            try:
                act()
            except Exception:  # the top of a thread: one failing act must not stop the others
                _logger.exception("deadline_failed")

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next act; None at the end."""
        while not self._stopping:
            now = self._due = self._clock.monotonic()
            act = self._taken(now)
            if act is not None:
                return act
            moment = self._heap[0][0] if self._heap else float("inf")
            self._looks_at = self._due = moment
            self._changed.wait(None if moment == float("inf") else moment - now)
            self._looks_at = float("-inf")
        return None

    def _taken(self, now: float) -> Callable[[], object] | None:
        # What was called off stays until its moment, unless there is much of it: an empty heap has to be told of
        # each entry, and the limits of runs that end at once would wake the thread every time.
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            act, entry.act = entry.act, None
            if act is not None:
                return act
            self._dead = max(0, self._dead - 1)
        return None
