"""The one thread on which users' callbacks of streams run, in order."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import ServiceThread

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)

#: Callbacks that may wait for the one that runs; one more is not made, and a line in the log says so.
WAITING = 1024
#: Seconds without a callback after which the thread ends; the next one makes another.
IDLE = 5.0


class StreamCallbacks:
    """Call what is handed over, one after the other, on a daemon made when it is needed: it is users' code.

    A stream that is over may still be asked for its end, so nobody knows when to stop: the thread of one that has
    nothing to do ends by itself.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._lock = threading.Lock()
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._thread: ServiceThread | None = None
        self._stopped = False

    def call(self, callback: Callable[[], None]) -> None:
        """Have this called; it never waits. After `stop` nothing is called any more."""
        with self._lock:
            if self._stopped:
                return
            self._put(callback)
            if self._thread is None:
                self._thread = ServiceThread("stream-callbacks", self._run, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End after what waits; who never returns is left."""
        with self._lock:
            if self._thread is not None and not self._stopped:
                self._put(None)
            self._stopped = True

    def _put(self, callback: Callable[[], None] | None) -> None:
        try:
            self._queue.put_nowait(callback)
        except queue.Full:
            _logger.warning("stream_callback_dropped")

    def _rests(self) -> bool:
        """Have the next callback make another thread, unless one has come just now; tell whether none has."""
        with self._lock:
            if not self._queue.empty():
                return False
            self._thread = None
            return True

    def _run(self) -> None:
        while True:
            try:
                callback = self._queue.get(timeout=self._idle)
            except queue.Empty:
                if self._rests():
                    return
                continue
            if callback is None:
                return
            try:
                callback()
            except BaseException:  # the callback is the user's: its trouble is not the next one's
                _logger.exception("stream_callback_failed")
