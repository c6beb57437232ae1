"""What threads wait on that hardly ever do: to wake them costs something only when there are some."""

from __future__ import annotations

import threading


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
