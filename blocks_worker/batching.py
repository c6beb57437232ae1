"""Natural batching: what gathers while one request is in flight is the next request."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Items and bytes of one batch; what does not fit is the next batch.
BATCH_ITEMS = 256
BATCH_BYTES = 1024 * 1024


class _Waiting(Generic[Item, Answer]):
    """Hold the items of one caller, which fit into a batch, the answers they get, and the lock on which he sleeps."""

    __slots__ = ("_wakeup", "answers", "done", "error", "items", "size")

    def __init__(self, items: Sequence[Item], size: int) -> None:
        self.items = items
        self.size = size
        self.answers: Sequence[Answer] = ()
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

    def result(self) -> Sequence[Answer]:
        """Return the answers, or raise what the flush raised."""
        if self.error is not None:
            raise self.error
        return self.answers


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
        return self._send(_Waiting([item], self._size_of(item)))[0]

    def in_batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield the items in as few batches as they fit in, in order; one that is too large is a batch by itself."""
        batch: list[Item] = []
        left = self._max_bytes
        for item in items:
            size = self._size_of(item)
            if batch and (size > left or len(batch) == self._max_items):
                yield batch
                batch, left = [], self._max_bytes
            batch.append(item)
            left -= size
        if batch:
            yield batch

    def call_many(self, items: Iterable[Item]) -> list[Answer]:
        """Send several items, in order, and return their answers; what is behind a batch that failed is not sent."""
        batches = (_Waiting[Item, Answer](batch, sum(map(self._size_of, batch))) for batch in self.in_batches(items))
        return [answer for batch in batches for answer in self._send(batch)]

    def _send(self, mine: _Waiting[Item, Answer]) -> Sequence[Answer]:
        try:
            with self._lock:
                self._queue.append(mine)
                if self._leader is None:
                    self._leader = mine
            while not mine.done:
                if self._leads(mine):
                    self._lead()
                else:
                    mine.sleep()
        finally:
            self._leave(mine)
        return mine.result()

    def _leads(self, waiting: _Waiting[Item, Answer]) -> bool:
        # Under the lock: who was woken to lead waits here until the lead is his.
        with self._lock:
            return self._leader is waiting

    def _lead(self) -> None:
        """Send one batch, answer it, hand the lead on."""
        with self._lock:
            self._take()
        error = None
        try:
            self._answer(self._flush([item for waiting in self._sending for item in waiting.items]))
        except Exception as failed:  # noqa: BLE001 - every caller of the batch is told
            error = failed
        self._hand_on(error)

    def _take(self) -> None:
        """Move the next batch from the queue to what is being sent; the lock is held."""
        count = size = 0
        while self._queue:
            first = self._queue[0]
            count, size = count + len(first.items), size + first.size
            if self._sending and (count > self._max_items or size > self._max_bytes):
                return
            # First in, then out: an item is never nowhere.
            self._sending.append(first)
            self._queue.popleft()

    def _answer(self, answers: Sequence[Answer]) -> None:
        """Give each caller what his items got."""
        first = 0
        for waiting in self._sending:
            waiting.answers = answers[first : first + len(waiting.items)]
            first += len(waiting.items)
        if first != len(answers):
            raise ValueError(f"{first} items were sent, and {len(answers)} answered")

    def _hand_on(self, error: Exception | None) -> None:
        """Answer what was sent, and wake the first who waits to lead the next flush."""
        with self._lock:
            # Each step may be the last one before an interrupt, and is then done again by `_leave`.
            for waiting in self._sending:
                if not waiting.done:
                    waiting.error = error
                    waiting.done = True
                if waiting is not self._leader:  # who leads does not sleep
                    waiting.wake()
            self._sending = []
            while self._queue and self._queue[0].done:
                self._queue.popleft()
            heir = self._queue[0] if self._queue else None
            if heir is not None:
                heir.wake()
            self._leader = heir

    def _leave(self, mine: _Waiting[Item, Answer]) -> None:
        """Give up what an interrupted caller still has: its place in the queue, and the lead."""
        if mine.done and self._leader is not mine:
            return
        with self._lock:
            with contextlib.suppress(ValueError):
                self._queue.remove(mine)
            leads = self._leader is mine
        if leads:
            self._hand_on(InterruptedError("the sending thread was interrupted: repeat with the same ids"))
