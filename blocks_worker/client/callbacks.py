"""Users' callbacks: a few threads a client, and for each session one callback after another."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from blocks_worker.client.events import TaskEvent
from blocks_worker.concurrency import ServiceThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_logger = logging.getLogger(__name__)

#: Threads that run callbacks, made when there is work for them.
THREADS = 4
#: Callbacks that one session may run before another has its turn.
_TURN = 32
#: Calls of one callback with news of a past moment, and bytes of their events, that wait for it: as many as a
#: session keeps events. Artifacts, the request to stop and the terminal event wait in any number: the session
#: holds on to them anyway.
WAITING_CALLS = 256
WAITING_BYTES = 4 * 1024 * 1024
#: What is news of a past moment.
PASSING = frozenset({"progress", "system"})

#: Callbacks of every event run before those of one type.
EVERY = "onEvent"
_KINDS = {
    "progress": "onProgress",
    "artifact": "onArtifact",
    "terminal": "onTerminal",
    "cancel_requested": "onCancelRequested",
    "system": "onSystem",
}


def kinds_of(event: TaskEvent) -> tuple[str, ...]:
    """Return the kinds of callbacks that an event is for, in the order in which they run."""
    return (EVERY, _KINDS[event.type]) if event.type in _KINDS else (EVERY,)


@dataclass(frozen=True)
class CallbackErrorContext:
    """Where a callback failed.

    Attributes:
        entry_point: ``taskSession`` or ``subscribeToTask``.
        callback_type: ``onProgress``, ``onArtifact``, ``onTerminal``, ``onCancelRequested``, ``onSystem``, ``onEvent``,
            ``onStream``, ``streamPredicate``; ``subscribe`` when the network refuses the channel.
        event: what it was called with: a `TaskEvent`, for streams a `StreamRef`, None when the network refused.
    """

    entry_point: str
    callback_type: str
    event: Any


@dataclass
class Callback:
    """One registration; it is called no more once it is not `active`."""

    kind: str
    function: Callable[..., Any]
    active: bool = True
    #: Of what waits for it, guarded by its session's lock: the places of the passing events, their bytes, and
    #: how many were given up.
    passing: deque[int] = field(default_factory=deque)
    weight: int = 0
    lost: int = 0


class CallbackPool:
    """Run the queues of many sessions on few threads.

    The threads are daemons: they run users' code, which nobody can end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[CallbackQueue | None] = SimpleQueue()
        self._threads: list[ServiceThread] = []
        self._idle = 0
        self._stopped = False
        self._here = threading.local()

    def schedule(self, queue: CallbackQueue) -> None:
        """Have the queue run on a thread of the pool."""
        with self._lock:
            if self._stopped:
                return
            thread = None
            if self._waiting.qsize() >= self._idle and len(self._threads) < THREADS:
                thread = ServiceThread(f"client-callbacks-{len(self._threads) + 1}", self._run, daemon=True)
                self._threads.append(thread)
            self._waiting.put(queue)
        if thread is not None:
            thread.start()

    def is_current(self) -> bool:
        """Tell whether the caller is a callback of this client."""
        return getattr(self._here, "inside", False)

    def is_at_work(self) -> bool:
        """Tell whether the caller is a callback of this client, or one of a stream on its own thread."""
        return self.is_current() or getattr(self._here, "beside", False)

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Run a callback on the caller's own thread: it may wait for events, but not for callbacks."""
        self._here.beside = True
        try:
            yield
        finally:
            self._here.beside = False

    def stop(self) -> None:
        """Let the threads end after the callback that each runs."""
        with self._lock:
            self._stopped = True
            for _ in self._threads:
                self._waiting.put(None)

    def _run(self) -> None:
        self._here.inside = True
        while True:
            with self._lock:
                self._idle += 1
            queue = self._waiting.get()
            with self._lock:
                self._idle -= 1
            if queue is None or self._stopped:
                return
            if queue.run(_TURN):
                self.schedule(queue)


class CallbackQueue:
    """Hold what one session has to call, in order; never two of its callbacks run at once.

    `lock` is the session's; it is never held while a callback runs. `after_last` is called when nothing is
    left to call. A callback that falls behind is not told the oldest of what is passing; one of every event is
    told by a ``system`` event with status ``warning`` that it was not.
    """

    def __init__(
        self,
        pool: CallbackPool,
        lock: threading.Lock,
        after_last: Callable[[], None],
        *,
        entry_point: str = "taskSession",
    ) -> None:
        self._pool = pool
        self._entry_point = entry_point
        self._lock = lock
        self._after_last = after_last
        self._calls: OrderedDict[int, tuple[Callback, TaskEvent]] = OrderedDict()
        self._next = 0
        self._scheduled = False
        self._calling = False
        self._error_callbacks: list[Callback] = []

    def add(self, calls: Sequence[tuple[Callback, TaskEvent]]) -> bool:
        """Add calls, with the lock held; tell whether `kick` is to be called after it is released."""
        for callback, event in calls:
            self._calls[self._next] = (callback, event)
            if event.type in PASSING:
                callback.passing.append(self._next)
                callback.weight += event.weight()
                self._bound(callback)
            self._next += 1
        if self._scheduled or not self._calls:
            return False
        self._scheduled = True
        return True

    def kick(self) -> None:
        """Have the calls run."""
        self._pool.schedule(self)

    def add_error_callback(self, callback: Callback) -> None:
        """Tell this callback of exceptions in the others; the lock is held."""
        self._error_callbacks = [*self._error_callbacks, callback]

    def drop(self) -> int:
        """Forget what was not called yet and tell how many calls that were; the lock is held."""
        dropped = len(self._calls)
        self._calls.clear()
        return dropped

    def is_idle(self) -> bool:
        """Tell whether nothing is called and nothing waits; the lock is held."""
        return not self._scheduled and not self._calls

    def is_calling(self) -> bool:
        """Tell whether a callback runs, or is about to, that the caller may wait for; the lock is held."""
        return self._calling and not self._pool.is_at_work()

    def run(self, most: int) -> bool:
        """Call at most so many; tell whether more are left."""
        for _ in range(most):
            with self._lock:
                self._calling = bool(self._calls)
                if not self._calls:
                    self._scheduled = False
                    break
                callback, event, lost = self._take()
            if lost and callback.active:
                self._warn(callback, event, lost)
            self._call(callback, event)
        else:
            return True
        self._after_last()
        return False

    def call_beside(self, callback: Callback, item: Any) -> None:
        """Call one callback now, on the caller's thread, beside the others."""
        if not callback.active:
            return
        with self._pool.beside():
            try:
                callback.function(item)
            except BaseException as error:  # noqa: BLE001 - a user's
                self.report(error, callback.kind, item)

    def _bound(self, callback: Callback) -> None:
        """Give up the oldest passing events of a callback that is behind."""
        while len(callback.passing) > WAITING_CALLS or (callback.weight > WAITING_BYTES and len(callback.passing) > 1):
            _, event = self._calls.pop(callback.passing.popleft())
            callback.weight -= event.weight()
            callback.lost += 1

    def _take(self) -> tuple[Callback, TaskEvent, int]:
        """Take the first call, and how many before it were given up."""
        _, (callback, event) = self._calls.popitem(last=False)
        if event.type in PASSING:
            callback.passing.popleft()
            callback.weight -= event.weight()
        lost, callback.lost = callback.lost, 0
        return callback, event, lost

    def _warn(self, callback: Callback, event: TaskEvent, lost: int) -> None:
        _logger.warning("callback_behind", extra={"task": event.task_id, "callback": callback.kind, "not_told": lost})
        if callback.kind == EVERY:
            message = f"{lost} events were not told: this callback is slower than they come"
            raw = {"type": "system", "taskId": event.task_id, "epoch": 0, "status": "warning", "message": message}
            self._call(callback, TaskEvent.of(raw))

    def _call(self, callback: Callback, event: TaskEvent) -> None:
        if not callback.active:
            return
        try:
            callback.function(event)
        except BaseException as error:  # noqa: BLE001 - a user's: sys.exit in it must not end the thread of all others
            self.report(error, callback.kind, event)

    def report(self, error: BaseException, kind: str, item: Any) -> None:
        """Tell the error callbacks of an exception in another callback, or the log when there is none."""
        context = CallbackErrorContext(self._entry_point, kind, item)
        told = [callback for callback in self._error_callbacks if callback.active]
        if not told:
            _logger.warning("callback_failed", extra={"callback": context.callback_type}, exc_info=error)
        for callback in told:
            _tell(callback, error, context)


def _tell(callback: Callback, error: BaseException, context: CallbackErrorContext) -> None:
    try:
        callback.function(error, context)
    except BaseException:  # a user's callback: it is reported, and that is all
        _logger.exception("error_callback_failed")
