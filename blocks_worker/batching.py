"""Natural batching: what gathers while one request is in flight is the next request."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Items and bytes of one batch; what does not fit is the next batch.
BATCH_ITEMS = 256
BATCH_BYTES = 1024 * 1024


class _Waiting(Generic[Item, Answer]):
    """Hold one item, the answer it gets, and the lock on which its caller sleeps."""

    __slots__ = ("_wakeup", "answer", "done", "error", "item", "size")

    def __init__(self, item: Item, size: int) -> None:
        self.item = item
        self.size = size
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.done = False
        self._wakeup = threading.Lock()
        self._wakeup.acquire()

    def sleep(self) -> None:
        """Sleep until woken; who wakes looks for himself what has changed."""
        self._wakeup.acquire()

    def wake(self) -> None:
        """Wake the caller; saying it twice changes nothing."""
        with contextlib.suppress(RuntimeError):
            self._wakeup.release()

    def result(self) -> Answer:
        """Return the answer, or raise what the flush raised."""
        if self.error is not None:
            raise self.error
        return self.answer  # type: ignore[return-value]  # a flush without error answered every item


class Batcher(Generic[Item, Answer]):
    """Send items in natural batches: what gathers while one flush is in flight is the next flush.

    There is no timer and no thread. Who finds the batcher idle leads: flushes at once, on its own thread, and
    then hands the lead to the first of those who came meanwhile. Answers come back in the order of the items; an
    exception of `flush` reaches every caller of that batch. A caller may be interrupted (Ctrl-C) at any point:
    on its way out it gives up its place and the lead, so that nobody waits for somebody who left.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        size_of: Callable[[Item], int] = lambda _item: 0,
        max_items: int = BATCH_ITEMS,
        max_bytes: int = BATCH_BYTES,
    ) -> None:
        self._flush = flush
        self._size_of = size_of
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[Item, Answer]] = deque()
        self._leader: _Waiting[Item, Answer] | None = None
        #: What the leader is sending: no longer queued, not yet answered.
        self._sending: list[_Waiting[Item, Answer]] = []

    def call(self, item: Item) -> Answer:
        """Send one item and return its answer."""
        return self.call_many([item])[0]

    def call_many(self, items: Sequence[Item]) -> list[Answer]:
        """Send several items, in order, and return their answers."""
        mine = [_Waiting[Item, Answer](item, self._size_of(item)) for item in items]
        try:
            self._enter(mine)
            for waiting in mine:
                self._await(waiting)
        finally:
            self._leave(mine)
        return [waiting.result() for waiting in mine]

    def _enter(self, mine: list[_Waiting[Item, Answer]]) -> None:
        with self._lock:
            self._queue.extend(mine)
            if self._leader is None and self._queue:
                self._leader = self._queue[0]

    def _await(self, waiting: _Waiting[Item, Answer]) -> None:
        while not waiting.done:
            if self._leads(waiting):
                self._lead()
            else:
                waiting.sleep()

    def _leads(self, waiting: _Waiting[Item, Answer]) -> bool:
        # Under the lock: who was woken to lead waits here until the lead is his.
        with self._lock:
            return self._leader is waiting

    def _lead(self) -> None:
        """Send one batch, answer it, hand the lead on."""
        with self._lock:
            self._take()
        error: Exception = InterruptedError("the sending thread was interrupted: repeat with the same ids")
        try:
            answers = self._flush([waiting.item for waiting in self._sending])
            for waiting, answer in zip(self._sending, answers, strict=True):
                waiting.answer = answer
        except Exception as failed:  # noqa: BLE001 - every caller of the batch is told
            error = failed
        else:
            self._hand_on(None)
            return
        self._hand_on(error)

    def _take(self) -> None:
        """Move the next batch from the queue to what is being sent; the lock is held."""
        size = 0
        while self._queue and len(self._sending) < self._max_items:
            size += self._queue[0].size
            if self._sending and size > self._max_bytes:
                return
            # First in, then out: an item is never nowhere.
            self._sending.append(self._queue[0])
            self._queue.popleft()

    def _hand_on(self, error: Exception | None) -> None:
        """Answer what was sent, and wake the first who waits to lead the next flush."""
        with self._lock:
            # Each step may be the last one before an interrupt, and is then done again by `_leave`.
            for waiting in self._sending:
                if not waiting.done:
                    waiting.error = error
                    waiting.done = True
                waiting.wake()
            self._sending = []
            while self._queue and self._queue[0].done:
                self._queue.popleft()
            heir = self._queue[0] if self._queue else None
            if heir is not None:
                heir.wake()
            self._leader = heir

    def _leave(self, mine: list[_Waiting[Item, Answer]]) -> None:
        """Give up what an interrupted caller still has: its places in the queue, and the lead."""
        leads = any(self._leader is waiting for waiting in mine)
        if not leads and all(waiting.done for waiting in mine):
            return
        gone = set(map(id, mine))
        with self._lock:
            self._queue = deque(waiting for waiting in self._queue if id(waiting) not in gone)
            leads = self._leader is not None and id(self._leader) in gone
        if leads:
            self._hand_on(InterruptedError("the sending thread was interrupted: repeat with the same ids"))
