"""What a session knows of its task, and how the client feeds it: the half that users do not see."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks_worker.client.callbacks import EVERY, Callback, CallbackQueue, kinds_of
from blocks_worker.client.history import History
from blocks_worker.client.ordering import SessionOrder
from blocks_worker.client.session_streams import SessionStreams, readable
from blocks_worker.client.state_after import state_after
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import AgentAuthFatalError
from blocks_worker.protocol.channels import task_channel
from blocks_worker.protocol.lifecycle import INPUT_REQUIRED, PAUSED, SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.owner import SessionOwner
    from blocks_worker.client.streams import StreamRef
    from blocks_worker.errors import BlocksError
    from blocks_worker.protocol.tasks import SubmitAnswer, TaskRole, TaskRow, WaitsFor

    EventCallback = Callable[[TaskEvent], Any]
    FindStream = Callable[[Sequence[StreamRef]], StreamRef | None]

_logger = logging.getLogger(__name__)

#: Seconds that an orderly end has for callbacks which were not called yet, or have not returned.
TELLING = 5.0
#: Seconds that an end waits for a callback which is about to begin. One that takes longer has begun.
BEGINNING = 0.1

#: What a queued task waits for, in words.
_WAITS: dict[WaitsFor | None, str] = {
    "instance": "no instance of the agent is running",
    "room": "all instances of the agent are busy",
    "limit": "the agent has as many tasks as it may",
    "delay": "it is not to begin yet",
    "retry": "its last run failed, and the next one is to come",
    None: "no instance of the agent has room",
}


class _Shown(NamedTuple):
    """What events that were shown ask for: a kick of the callbacks, and new streams, of which `told` are to hear."""

    kick: bool
    streams: Sequence[StreamRef]
    told: Sequence[Callback]


class SessionFeed:
    """Hold the order of events, the history, the callbacks, the streams and the state of one task.

    Its lock guards all of them. What comes in is decided on under the lock; callbacks run on the client's
    callback threads, one after another, without it. One that joined a task later (`joined`) does not tell a
    callback of the progress that was before it.
    """

    def __init__(
        self,
        owner: SessionOwner,
        task_id: str,
        *,
        poll: float,
        joined: bool = False,
        auto_drain: bool = True,
        drain_window: float | None = None,
        role: TaskRole = "consumer",
        entry_point: str = "taskSession",
    ) -> None:
        self._owner = owner
        #: As whom the hub is asked: who sent the task, or the owner of its agent.
        self.role: TaskRole = role
        self._streams = SessionStreams(owner, auto_drain=auto_drain, drain_window=drain_window)
        self.task_id = task_id
        #: The channel on which the hub tells this session; another one than the client's, and it is registered.
        self.heard_on = ""
        self.owner_id = ""
        self.org_id = ""
        self.status_channel = ""
        self.idempotent = False
        self._queued = False
        self._waits_for: WaitsFor | None = None
        self._state = "pending"
        self._lock = threading.Lock()
        self._changed: threading.Condition | None = None
        self._order = SessionOrder(task_id, owner.clock.monotonic(), poll=poll)
        self._history = History(joined=joined)
        self._callbacks: dict[str, list[Callback]] = {}
        self._stream_callbacks: list[Callback] = []
        #: Calls of callbacks with streams which can be read, that have not returned.
        self._readers = 0
        self._queue = CallbackQueue(owner.pool, self._lock, self._after_callbacks, entry_point=entry_point)
        self._closed = False
        self._ended = False
        #: Nothing is routed here any more.
        self._is_left = False
        #: Why the hub's last word on the task is not known.
        self._untold: BlocksError | None = None

    @property
    def queued(self) -> bool:
        """Whether the task waits for an instance with room."""
        return self._queued and self._state == "pending"

    @property
    def waits_for(self) -> WaitsFor | None:
        """While it is queued, by the hub's last word: ``instance``, none runs; ``room``, all that run are busy.

        Also ``limit``, the agent has as many tasks as it may; ``delay``, it is not to begin yet; ``retry``, a run
        failed, and the next one is to come.
        """
        return self._waits_for if self.queued else None

    def close(self) -> None:
        """Stop watching: whoever waits is woken with RuntimeError. The task goes on.

        When the end of the task is known, callbacks are first called with what they were not called with yet, and
        those of streams that can be read may return: 5 seconds at most, and not when a callback of this client asks.
        """
        self.hand_out(Deadline(TELLING, self._owner.clock))
        self.cut()

    def cut(self) -> None:
        """Stop watching now: no callback is called any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.drop()
            self._wake()
            deadline = Deadline(BEGINNING, self._owner.clock)
            while self._queue.is_calling() and not deadline.expired():
                self._wait(deadline.remaining())
        self._streams.close()
        self._leave()

    def hand_out(self, deadline: Deadline) -> None:
        """Have callbacks hear what is there of a task that is over; who never returns is left at the deadline."""
        if self._owner.pool.is_at_work():
            return  # it would wait for itself
        with self._lock:
            while self._history.terminal is not None and not self._closed and not self._is_told():
                if deadline.expired():
                    left = self._queue.drop()
                    _logger.warning("callbacks_too_slow", extra={"task": self.task_id, "not_called": left})
                    return
                self._wait(deadline.remaining())

    # ------------------------------------------------------------ what the client feeds in

    def accepted(self, answer: SubmitAnswer, *, is_own: bool) -> None:
        """Take in what the hub said to the submit; `is_own`: the task was made by it."""
        with self._lock:
            self.owner_id = answer.owner_id
            self.org_id = answer.org_id
            self.status_channel = answer.status_channel
            # Under the id that was made for it, the task is this submit's own: its first answer was lost.
            self.idempotent = answer.idempotent and not is_own
            self._queued, self._waits_for = answer.queued, answer.waits_for
            if self._state == "pending" and answer.state not in SHOWN_TERMINAL:
                self._state = answer.state

    def found(self, row: TaskRow) -> None:
        """Take in whose task it is."""
        self.owner_id = self.org_id = row.owner
        self.status_channel = task_channel(row.owner, row.task_id)

    def was_over(self) -> None:
        """Take in that the task had ended before this session began."""
        with self._lock:
            self._streams.was_over()

    def feed(self, events: Sequence[TaskEvent], now: float) -> None:
        """Take in events of the network."""
        with self._lock:
            shown = self._show([event for fed in events for event in self._order.feed(fed, now)])
        self._act(shown)

    def feed_ledger(self, row: TaskRow, events: Sequence[TaskEvent], now: float, *, after: int, more: bool) -> None:
        """Take in one page of the ledger, read after that number."""
        with self._lock:
            found = self._order.feed_ledger(row, events, now, after=after, more=more)
            self._untold = None
            self._queued, self._waits_for = row.queued, row.waits_for
            if row.state not in SHOWN_TERMINAL and self._history.terminal is None:
                self._state = row.state
            shown = self._show(found)
        self._act(shown)

    def tick(self, now: float) -> None:
        """Let time pass: a terminal event that waited long enough is shown."""
        with self._lock:
            shown = self._show(self._order.tick(now))
        self._act(shown)

    def doubt(self, now: float) -> None:
        """Have the hub asked soon: the network may have lost something."""
        with self._lock:
            self._order.ask_now(now)

    def not_told(self, error: BlocksError, now: float) -> None:
        """Take in that the hub gave no answer; who waits is told of a refusal for good."""
        with self._lock:
            self._untold = error
            self._order.ask_now(now)
            self._wake()

    def due(self) -> float | None:
        """Return when it wants to be looked at again; None when it is over or closed."""
        with self._lock:
            return None if self._closed else self._order.due()

    def question(self, now: float) -> int | None:
        """Return the sequence number after which the hub is to be asked now, and count it as asked."""
        with self._lock:
            if self._closed or not self._order.wants_ledger(now):
                return None
            self._order.asked(now)
            return self._order.cursor

    # ------------------------------------------------------------ steps, the lock held

    def _show(self, events: Sequence[TaskEvent]) -> _Shown | None:
        """Remember events and queue their callbacks; return what is to be done without the lock."""
        if not events or self._closed:
            return None
        self._history.add(events)
        question = self._history.question
        for event in events:
            self._state = state_after(self._state, event, question)
        streams, told = self._streams.take(events), self._stream_callbacks
        if streams and told:
            self._readers += len(told) * readable(streams)
        kick = self._queue.add(self._calls(events)) if self._callbacks else False
        self._ended = self._is_over()
        self._wake()
        return _Shown(kick, streams, told)

    def _calls(self, events: Sequence[TaskEvent]) -> list[tuple[Callback, TaskEvent]]:
        kinds = ((kind, event) for event in events for kind in kinds_of(event))
        return [(callback, event) for kind, event in kinds for callback in self._callbacks.get(kind, ())]

    def _is_over(self) -> bool:
        """Tell whether the task is over and every callback was called."""
        return self._history.terminal is not None and self._queue.is_idle()

    def _is_told(self) -> bool:
        return self._queue.is_idle() and not self._readers

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()

    def _wait(self, timeout: float | None) -> None:
        if self._changed is None:
            self._changed = threading.Condition(self._lock)
        self._changed.wait(timeout)

    def _check_waitable(self) -> None:
        if self._closed:
            raise RuntimeError(f"the session of task {self.task_id} was closed; the task is {self._state}")
        if self._owner.pool.is_current():
            raise RuntimeError("a callback cannot wait for other events: it holds up the thread that tells of them")
        if isinstance(self._untold, AgentAuthFatalError):
            raise AgentAuthFatalError(str(self._untold), code=self._untold.code) from self._untold

    def not_over(self, timeout: float | None) -> TimeoutError:
        """Return what says that the task goes on, and how it stands."""
        waits = f", queued: {_WAITS[self.waits_for]}" if self.queued else ""
        if self._untold is not None:
            said = f"was {self._state} when it was last heard of; since then: {self._untold}"
        else:
            said = f"is not over after {timeout} s: it is {self._state}{waits}"
        return TimeoutError(f"task {self.task_id} {said}")

    def held_up(self) -> str | None:
        """Return in words why the task does not get on, as far as is known; None when it may."""
        if self._untold is not None:
            return f"the hub does not answer; it was {self._state} when it was last heard of"
        if self._state in {PAUSED, INPUT_REQUIRED}:
            return "paused" if self._state == PAUSED else "it waits for an answer"
        if self._state == "pending":
            return f"queued: {_WAITS[self.waits_for]}" if self._queued else "queued"
        return None

    # ------------------------------------------------------------ steps, without the lock

    def register(self, kind: str, function: EventCallback) -> Callable[[], None]:
        """Call with the events of a kind; what is known of them first."""
        callback = Callback(kind, function)
        with self._lock:
            self._callbacks[kind] = [*self._callbacks.get(kind, []), callback]
            known = [] if self._closed else self._history.earlier(kind)
            kick = self._queue.add([(callback, event) for event in known])
        if kick:
            self._queue.kick()
        return lambda: self._unregister(callback)

    def _unregister(self, callback: Callback) -> None:
        callback.active = False
        with self._lock:
            self._callbacks[callback.kind] = [one for one in self._callbacks[callback.kind] if one is not callback]

    def _act(self, shown: _Shown | None) -> None:
        """Do what showing events asks for, now that the lock is free."""
        if shown is None:
            return
        try:
            for callback in shown.told:
                self._streams.tell(shown.streams, partial(self._tell_stream, callback), are_new=True)
            self._streams.settle_ends()
        finally:  # it is said that they are kicked: nobody else does it
            if shown.kick:
                self._queue.kick()
            if self._history.terminal is not None:
                if self._ended:
                    self._streams.settle()
                self._leave()

    def _leave(self) -> None:
        """Have nothing routed here any more."""
        if not self._is_left:
            self._is_left = True
            self._owner.forget(self)

    def _after_callbacks(self) -> None:
        with self._lock:
            is_over = self._is_over()
            is_told = is_over and bool(self._callbacks.get("onTerminal") or self._callbacks.get(EVERY))
        if is_told:
            self._streams.end_is_known()
        if is_over:
            self._streams.settle()
        with self._lock:
            self._ended = self._is_over()  # the end may have come meanwhile
            self._wake()

    def _tell_stream(self, callback: Callback, ref: StreamRef) -> None:
        try:
            self._queue.call_beside(callback, ref)
        finally:
            with self._lock:
                self._readers -= readable([ref])
                self._wake()

    def _wait_stream(self, find: FindStream, what: str, timeout: float | None) -> StreamRef:
        """Look at the streams until one is found; `find` is called without the lock: it may be the user's."""
        deadline = Deadline(timeout, self._owner.clock)
        while True:
            with self._lock:
                known = self._streams.refs()
                is_over = self._history.terminal is not None
            found = find(known)
            if found is not None:
                return found
            with self._lock:
                if self._streams.refs() != known:
                    continue
                if is_over:
                    raise RuntimeError(f"the task {self.task_id} is over and announced {what}")
                self._check_waitable()
                if deadline.expired():
                    raise TimeoutError(f"task {self.task_id} announced {what} within {timeout} s")
                if self._history.terminal is None:
                    self._wait(deadline.remaining())

    def _next_events(self, position: int, patience: float | None) -> tuple[int, list[TaskEvent]] | None:
        """Return the events from a number on, none when none came in time, None when the session was closed."""
        deadline = Deadline(patience, self._owner.clock)
        with self._lock:
            while self._history.end <= position and not deadline.expired():
                if self._closed:
                    return None
                self._check_waitable()
                self._wait(deadline.remaining())
            self._streams.end_is_known()
            return self._history.since(position)

    def _holds(self, predicate: Callable[[StreamRef], bool], ref: StreamRef) -> bool:
        """Ask a user's predicate; one that fails is told of, and does not hold."""
        try:
            return bool(predicate(ref))
        except Exception as error:  # noqa: BLE001 - a user's
            self._queue.report(error, "streamPredicate", ref)
            return False

    def _stop(self, reason: str | None, *, terminated: bool) -> bool:
        if self.role != "consumer":
            raise RuntimeError("only who sent a task may stop it: this session is its agent's owner's")
        if self._history.terminal is not None:
            return False
        return self._owner.stop_task(self.task_id, reason=reason, terminated=terminated)
