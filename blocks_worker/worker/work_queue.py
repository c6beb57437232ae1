"""The queue before the slots: it wakes one thread at a time, and of those that sleep the one that slept last."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WorkQueue(Generic[Item]):
    """Hand items to threads, in order.

    A thread that was woken wakes the next one when more waits, before it begins: however long each works, all have
    begun at once. But short work is done by few threads, instead of by as many as there are, which would then only wait
    for the interpreter; and who worked last, whose memory is near, works next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        #: On what each of those sleeps who found nothing; the last one went to sleep last.
        self._asleep: list[threading.Lock] = []
        #: Somebody was woken, and has not come for his item yet.
        self._waking = False

    def put(self, item: Item) -> None:
        """Have the next free thread take an item."""
        with self._lock:
            self._items.append(item)
            self._wake()

    def get(self) -> Item:
        """Return the next item, when there is one."""
        with self._lock:
            while not self._items:
                bed = threading.Lock()
                bed.acquire()
                self._asleep.append(bed)
                self._lock.release()
                try:
                    bed.acquire()
                finally:
                    self._lock.acquire()
                self._waking = False
            item = self._items.popleft()
            if self._items:
                self._wake()
            return item

    def drain(self) -> list[Item]:
        """Take all that nobody has taken."""
        with self._lock:
            left = list(self._items)
            self._items.clear()
            return left

    def _wake(self) -> None:
        if self._asleep and not self._waking:
            self._waking = True
            self._asleep.pop().release()
