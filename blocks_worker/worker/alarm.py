"""What threads sleep on, so that waking them costs little: one alone without a lock, many only when there are some."""

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


class Waiters:
    """Be a condition of a lock that others hold often and wait at hardly ever; the lock is held in each verb."""

    def __init__(self, lock: threading.Lock) -> None:
        self._changed = threading.Condition(lock)
        self._count = 0

    def wait(self, seconds: float | None) -> None:
        """Let the lock go until something has changed, at most so long."""
        self._count += 1
        try:
            self._changed.wait(seconds)
        finally:
            self._count -= 1

    def wake(self) -> None:
        """Let all who wait look again."""
        if self._count:
            self._changed.notify_all()


def ring(alarm: Alarm | None) -> None:
    """Wake a thread, if there is one to wake."""
    if alarm is not None:
        alarm.ring()
