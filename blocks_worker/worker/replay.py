"""Which signed control messages are new: a window over their sequence numbers."""

from __future__ import annotations

import heapq

#: Numbers remembered; a message older than all of them is refused.
WINDOW = 2048


class ReplayWindow:
    """Let each sequence number pass once; out of order is allowed within the window."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._seen: set[int] = set()
        self._oldest_first: list[int] = []
        self._floor = -1

    def is_new(self, sequence: int) -> bool:
        """Tell whether this number passes, and remember it."""
        if sequence <= self._floor or sequence in self._seen:
            return False
        self._seen.add(sequence)
        heapq.heappush(self._oldest_first, sequence)
        if len(self._oldest_first) > self._size:
            self._floor = heapq.heappop(self._oldest_first)
            self._seen.discard(self._floor)
        return True
