"""The bounded queue between the thread that reads a network and the owner of a subscription."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from blocks_worker.errors import TransportClosedError
from blocks_worker.transports.base import QUEUE_BYTES, QUEUE_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks_worker.concurrency import Clock
    from blocks_worker.transports.base import Received


class Inbox:
    """Hold what was read until the owner takes it; who puts waits while it is full."""

    def __init__(self, clock: Clock, *, messages: int = QUEUE_MESSAGES, size: int = QUEUE_BYTES) -> None:
        self._clock = clock
        self._max_messages = messages
        self._max_size = size
        self._changed = threading.Condition()
        self._items: deque[Received] = deque()
        self._size = 0
        self._closed = False
        self._woken = False
        #: Seconds that the reading stood still because nobody took.
        self.blocked = 0.0

    def put(self, items: Iterable[tuple[Received, int]]) -> bool:
        """Queue items with their sizes, in order, waiting for room; False when it was closed meanwhile."""
        with self._changed:
            for item, size in items:
                if not self._wait_for_room():
                    return False
                self._items.append(item)
                self._size += size
                if len(self._items) == 1:
                    self._changed.notify_all()
        return True

    def take(self, timeout: float | None) -> Sequence[Received]:
        """Return all that waits, waiting for the first; nothing at the timeout, or when it is woken.

        Raises:
            TransportClosedError: it was closed and is empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed or self._woken, timeout)
            self._woken = False
            if self._closed:
                raise TransportClosedError("the subscription was closed")
            taken = tuple(self._items)
            self._items.clear()
            self._size = 0
            self._changed.notify_all()
            return taken

    def wake(self) -> None:
        """Have whoever takes now, or next, come back at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def depth(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def close(self) -> None:
        """Wake everybody: nothing is put or waited for any more, and what waits is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """Wait, with the lock held, until there is room; False when it was closed."""
        if self._is_full() and not self._closed:
            began = self._clock.monotonic()
            self._changed.wait_for(lambda: self._closed or not self._is_full())
            self.blocked += self._clock.monotonic() - began
        return not self._closed

    def _is_full(self) -> bool:
        return len(self._items) >= self._max_messages or self._size >= self._max_size
