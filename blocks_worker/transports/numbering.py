"""The numbers of this producer's messages: contiguous on each channel, given out to one sender at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks_worker.errors import PublishTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.concurrency import Deadline

#: Channels whose last number is remembered.
CHANNELS = 10_000


@dataclass
class _Queue:
    """The senders of one channel; it lives as long as there is one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Turn:
    """Be the right to send on a channel; `next` is the number of the next message."""

    def __init__(self, first: int) -> None:
        self.next = first

    def spend(self, count: int) -> None:
        """Say that the next `count` numbers were sent, or may have been."""
        self.next += count


class Numbering:
    """Give out turns; what is forgotten goes on above every number given before, never below."""

    def __init__(self, *, channels: int = CHANNELS) -> None:
        self._max = channels
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._last: OrderedDict[str, int] = OrderedDict()
        self._floor = 0

    @contextmanager
    def turn(self, channel: str, deadline: Deadline) -> Iterator[Turn]:
        """Wait for the turn on a channel and hold it.

        Raises:
            PublishTimeoutError: the deadline came first; nothing was sent.
        """
        queue = self._enter(channel)
        try:
            left = deadline.remaining()
            if not queue.lock.acquire(timeout=-1 if left is None else left):
                raise PublishTimeoutError(f"another publish on {channel} took all the time")
            try:
                turn = Turn(self._first(channel))
                yield turn
            finally:
                self._remember(channel, turn.next - 1)
                queue.lock.release()
        finally:
            self._leave(channel, queue)

    def _enter(self, channel: str) -> _Queue:
        with self._lock:
            queue = self._queues.setdefault(channel, _Queue())
            queue.users += 1
            return queue

    def _leave(self, channel: str, queue: _Queue) -> None:
        with self._lock:
            queue.users -= 1
            if not queue.users:
                del self._queues[channel]

    def _first(self, channel: str) -> int:
        with self._lock:
            return self._last.get(channel, self._floor) + 1

    def _remember(self, channel: str, last: int) -> None:
        with self._lock:
            self._last[channel] = last
            self._last.move_to_end(channel)
            if len(self._last) > self._max:
                _, forgotten = self._last.popitem(last=False)
                self._floor = max(self._floor, forgotten)
