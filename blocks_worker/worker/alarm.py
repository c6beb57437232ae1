"""What a thread sleeps on: it is woken without a lock that it would meet as soon as it is awake."""

from __future__ import annotations

import contextlib
import threading


class Alarm:
    """Wake one thread; a ring that comes before it sleeps counts, and several of them as one.

    Whoever rings holds no lock that the thread takes next: else it would wake only to wait for that.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def sleep(self, seconds: float | None) -> None:
        """Sleep until it rings, at most so long; None: for as long as that takes."""
        self._silence.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def ring(self) -> None:
        """Wake the thread."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._silence.release()


def ring(alarm: Alarm | None) -> None:
    """Wake a thread, if there is one to wake."""
    if alarm is not None:
        alarm.ring()
