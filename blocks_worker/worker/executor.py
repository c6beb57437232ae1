"""The slots: daemon threads made at boot that take work from one queue, and can be given up.

A slot runs users' code, which may hang for ever. The interpreter joins the threads of the standard pool at
exit, so one hung handler would keep the process alive; these are plain daemons that nobody waits for.
"""

from __future__ import annotations

import itertools
import logging
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from blocks_worker.concurrency import ServiceThread
from blocks_worker.worker.work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

_logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What tells a thread to end.
_END = object()


class _Seat:
    """One thread and what it is doing."""

    def __init__(self) -> None:
        self.item: object = None
        self.abandoned = False
        #: Another has its place already; it ends with what it does.
        self.spare = False
        #: It was to be given up, and nobody could take its place.
        self.stuck = False


class SlotExecutor(Executor):
    """Run work on `slots` threads; a thread that hangs is abandoned and another takes its place.

    `start` is for the hot path: it makes no future. At most `max_abandoned` threads are replaced while
    they hang; beyond that a hung thread keeps its slot.
    """

    def __init__(self, slots: int, *, max_abandoned: int | None = None, name: str = "executor") -> None:
        self._slots = slots
        self._max_abandoned = slots if max_abandoned is None else max_abandoned
        self._name = name
        self._queue: WorkQueue[Any] = WorkQueue()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._seats: dict[_Seat, ServiceThread] = {}
        #: Threads whose places were given to others while they wait.
        self._spares: set[_Seat] = set()
        #: All of them by the numbers of their threads, those that were given up too.
        self._living: dict[int, _Seat] = {}
        self._hung = 0
        self._ended = False

    def open(self) -> None:
        """Start the threads: all at once, so that a process without room for them fails now."""
        with self._lock:
            for _ in range(self._slots):
                self._seat()

    @property
    def abandoned(self) -> int:
        """How many threads were given up and have not come back."""
        return self._hung

    @property
    def stuck(self) -> int:
        """How many threads hang and keep their slots: as many as may were replaced, or no other could be started."""
        with self._lock:
            return sum(seat.stuck for seat in self._seats)

    @property
    def threads(self) -> int:
        """How many threads take work."""
        with self._lock:
            return len(self._seats)

    def items(self) -> dict[int, object]:
        """Return what each thread works on, by the thread's number; those that rest are left out."""
        with self._lock:
            return {number: seat.item for number, seat in self._living.items() if seat.item is not None}

    def start(self, function: Callable[[Any], object], item: object) -> None:
        """Run the function with the item on the next free thread; its result is dropped, its exception logged."""
        self._queue.put((function, item))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call on the next free thread and return its future."""
        if self._ended:
            raise RuntimeError("this executor was shut down")
        future: Future[T] = Future()

        def call(_item: object) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whatever it raised belongs to the future's owner
                future.set_exception(error)
            else:
                future.set_result(result)

        self.start(call, future)
        return future

    def step_aside(self, item: object) -> None:
        """Have another thread in place of the one that works on this item: it waits, and ends when it is done."""
        with self._lock:
            seat = next((seat for seat in self._seats if seat.item is item), None)
            if seat is None or self._ended or not self._replaced(seat):
                return
            self._spares.add(seat)
            seat.spare = True

    def abandon(self, item: object) -> bool:
        """Give up the thread that works on this item; tell whether another took its place."""
        with self._lock:
            seat = next((seat for seat in (*self._seats, *self._spares) if seat.item is item), None)
            if seat is None or seat.abandoned or self._ended:
                return False
            if self._hung >= self._max_abandoned or not (seat.spare or self._replaced(seat)):
                seat.stuck = True
                return False
            seat.abandoned = True
            self._hung += 1
            return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's signature
        """Tell the threads to end after what they do; `wait`: for those that are idle or end soon."""
        with self._lock:
            self._ended = True
            threads = list(self._seats.values())
        if cancel_futures:
            self._cancel_waiting()
        for _ in threads:
            self._queue.put(_END)
        for thread in threads if wait else ():
            thread.join(None)

    def join(self, timeout: float | None) -> list[str]:
        """Wait for the threads that end by then; return the names of those which do not."""
        with self._lock:
            threads = list(self._seats.values())
        each = None if timeout is None else timeout / max(1, len(threads))
        return [thread.name for thread in threads if not thread.join(each)]

    def _cancel_waiting(self) -> None:
        for waiting in self._queue.drain():
            if waiting is not _END and isinstance(waiting[1], Future):
                waiting[1].cancel()

    def _replaced(self, seat: _Seat) -> bool:
        """Put another thread in the place of one; tell whether there was room for it in the process. Needs the lock."""
        try:
            self._seat()
        except RuntimeError as error:  # can't start new thread
            _logger.error("no_thread", extra={"error": str(error)})  # noqa: TRY400 - where it was is no news
            return False
        del self._seats[seat]
        return True

    def _seat(self) -> None:
        """Start one more thread; it takes work as soon as it runs."""
        seat = _Seat()
        name = f"{self._name}-{next(self._numbers)}"
        thread = ServiceThread(name, lambda: self._work(seat), daemon=True)
        thread.start()
        self._seats[seat] = thread

    def _work(self, seat: _Seat) -> None:
        with self._lock:
            self._living[threading.get_ident()] = seat
        while not seat.abandoned and not seat.spare:
            taken = self._queue.get()
            if taken is _END:
                break
            function, seat.item = taken
            try:
                function(seat.item)
            except BaseException:  # the edge of the slot: whatever comes, the thread lives
                _logger.exception("slot_failed")
            seat.item = None
            seat.stuck = False
            del taken, function
        self._left(seat)

    def _left(self, seat: _Seat) -> None:
        with self._lock:
            if seat.abandoned:
                self._hung -= 1
            self._living.pop(threading.get_ident(), None)
            self._seats.pop(seat, None)
            self._spares.discard(seat)
