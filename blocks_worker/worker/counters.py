"""Counters by name: what was refused, dropped, repeated or lost is never silent."""

from __future__ import annotations

import threading


class Counters:
    """Count what happens; names are few and fixed, never an id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + by

    def snapshot(self) -> dict[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)
