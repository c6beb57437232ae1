"""The consumer's view of one task: its events in order, its end, and what it brought."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.artifacts import DownloadedArtifact, download_artifact
from blocks_worker.client.callbacks import EVERY, Callback, CallbackQueue, kinds_of
from blocks_worker.client.history import History
from blocks_worker.client.ordering import SessionOrder
from blocks_worker.client.reading import Reading
from blocks_worker.client.results import TaskResult, save_all
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import TaskFailedError
from blocks_worker.protocol.channels import task_channel
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from typing_extensions import Self

    from blocks_worker.client.callbacks import CallbackErrorContext
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.owner import SessionOwner
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.tasks import SubmitAnswer, TaskRow

    EventCallback = Callable[[TaskEvent], Any]
    # What `sys.exit` raises is no Exception, and is told all the same.
    ErrorCallback = Callable[[Any, CallbackErrorContext], Any]


class TaskSession:
    """Show one task.

    Its lock guards the order of events, the history, the callbacks and the state. What comes in is decided
    on under the lock; callbacks run on the client's callback threads, one after another, without it.
    A session keeps its client alive. One that joined a task later (`joined`) does not tell a callback of the
    progress that was before it.
    """

    def __init__(self, owner: SessionOwner, task_id: str, *, poll: float, joined: bool = False) -> None:
        self._owner = owner
        self.task_id = task_id
        #: The channel on which the hub tells this session; another one than the client's, and it is registered.
        self.heard_on = ""
        self.owner_id = ""
        self.org_id = ""
        self.status_channel = ""
        self.idempotent = False
        self._queued = False
        self._state = "pending"
        self._lock = threading.Lock()
        self._changed: threading.Condition | None = None
        self._order = SessionOrder(task_id, owner.clock.monotonic(), poll=poll)
        self._history = History(joined=joined)
        self._callbacks: dict[str, list[Callback]] = {}
        self._queue = CallbackQueue(owner.pool, self._lock, self._after_callbacks)
        self._closed = False
        self._ended = False

    # ------------------------------------------------------------ how it stands

    @property
    def state(self) -> str:
        """``pending``, ``running``, ``completed``, ``failed`` or ``canceled``."""
        return self._state

    @property
    def queued(self) -> bool:
        """Whether the task waits for an instance with room."""
        return self._queued and self._state == "pending"

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or the task is over and every callback was told."""
        return self._closed or self._ended

    @property
    def read_token(self) -> str:
        """A grant to read `status_channel` with a client of the network; asked of the hub at each look."""
        return self._owner.read_token(self.task_id)

    def list_events(self) -> list[TaskEvent]:
        """Return the events so far: the last 256, or 4 MiB of them."""
        with self._lock:
            return self._history.events()

    def list_artifacts(self) -> list[ArtifactRef]:
        """Return every artifact so far."""
        with self._lock:
            return [event.artifact_ref for event in self._history.artifacts if event.artifact_ref is not None]

    # ------------------------------------------------------------ callbacks

    def on_progress(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each progress event; the answer takes the registration back.

        Earlier ones are included, save in a session of `connect`: there `list_events` tells of them.
        """
        return self._register("onProgress", callback)

    def on_artifact(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each artifact event, earlier ones included."""
        return self._register("onArtifact", callback)

    def on_terminal(self, callback: EventCallback) -> Callable[[], None]:
        """Call once, with the terminal event."""
        return self._register("onTerminal", callback)

    def on_cancel_requested(self, callback: EventCallback) -> Callable[[], None]:
        """Call when the task was asked to stop: at most once, never after the terminal event."""
        return self._register("onCancelRequested", callback)

    def on_event(self, callback: EventCallback) -> Callable[[], None]:
        """Call with every event, before the callbacks of its type."""
        return self._register(EVERY, callback)

    def on_error(self, callback: ErrorCallback) -> Callable[[], None]:
        """Call with each exception of another callback, and where it came from."""
        registered = Callback("onError", callback)
        with self._lock:
            self._queue.add_error_callback(registered)
        return lambda: setattr(registered, "active", False)

    # ------------------------------------------------------------ waiting

    def wait_for_terminal(self, timeout: float | None = 60) -> TaskEvent:
        """Return the terminal event; None waits for ever.

        Raises:
            TimeoutError: it did not come; the text says how the task stands.
            RuntimeError: the session was closed, or a callback of this client waits.
        """
        deadline = Deadline(timeout, self._owner.clock)
        with self._lock:
            while self._history.terminal is None:
                self._check_waitable()
                if deadline.expired():
                    raise TimeoutError(self._standing(timeout))
                self._wait(deadline.remaining())
            return self._history.terminal

    def result(self, timeout: float | None = None) -> TaskResult:
        """Return what the task brought; None waits for ever.

        Raises:
            TaskFailedError: it failed or was canceled; its `event` is the terminal one.
            TimeoutError: it is not over yet.
        """
        terminal = self.wait_for_terminal(timeout)
        if terminal.state != "completed":
            raise TaskFailedError(self.task_id, terminal)
        return TaskResult(self.task_id, [download_artifact(ref, self) for ref in self.list_artifacts()])

    def text(self, timeout: float | None = None) -> str:
        """Return the result as text."""
        return self.result(timeout).text

    def json(self, timeout: float | None = None) -> Any:
        """Return the result as decoded JSON."""
        return self.result(timeout).json()

    def __iter__(self) -> Iterator[TaskEvent]:
        """Yield the events from the first to the terminal one; a closed session ends it.

        A slow reader gets what the session keeps no more from the hub. What nobody has any more is told by a
        ``system`` event with status ``warning``.
        """
        stored = partial(self._owner.stored_events, self.task_id)
        return iter(Reading(self.task_id, following=self._next_events, stored=stored))

    # ------------------------------------------------------------ artifacts

    def download_artifact(self, ref: ArtifactRef | Mapping[str, Any]) -> DownloadedArtifact:
        """Return the artifact of a reference."""
        return download_artifact(ref, self)

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored artifact by pieces of at most 64 KiB, checked at its end."""
        return self._owner.file_pieces(ref)

    def save_artifacts(self, directory: str | PathLike[str]) -> list[Path]:
        """Write every artifact so far into a folder and return the paths; nothing there is overwritten."""
        return save_all(self.list_artifacts(), directory, self)

    # ------------------------------------------------------------ ending

    def cancel(self, reason: str | None = None) -> bool:
        """Ask the task to stop; tell whether it still ran.

        Safe to repeat, and repeated while no answer comes: one that ended by the first request counts as ended.
        """
        return self._stop(reason, terminated=False)

    def terminate(self, reason: str | None = None) -> bool:
        """Have the task ended soon, whatever its handler does; tell whether it still ran."""
        return self._stop(reason, terminated=True)

    def close(self) -> None:
        """Stop watching: whoever waits is woken with RuntimeError. The task goes on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.drop()
            self._wake()
        self._owner.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TaskSession {self.task_id} {self._state}>"

    # ------------------------------------------------------------ what the client feeds in

    def accepted(self, answer: SubmitAnswer, *, is_own: bool) -> None:
        """Take in what the hub said to the submit; `is_own`: the task was made by it."""
        with self._lock:
            self.owner_id = answer.owner_id
            self.org_id = answer.org_id
            self.status_channel = answer.status_channel
            # Under the id that was made for it, the task is this submit's own: its first answer was lost.
            self.idempotent = answer.idempotent and not is_own
            self._queued = answer.queued
            if self._state == "pending" and answer.state not in SHOWN_TERMINAL:
                self._state = answer.state

    def found(self, row: TaskRow) -> None:
        """Take in whose task it is."""
        self.owner_id = self.org_id = row.owner
        self.status_channel = task_channel(row.owner, row.task_id)

    def feed(self, events: Sequence[TaskEvent], now: float) -> None:
        """Take in events of the network."""
        with self._lock:
            shown = [event for fed in events for event in self._order.feed(fed, now)]
            kick = self._show(shown)
        self._act(kick=kick)

    def feed_ledger(self, row: TaskRow, events: Sequence[TaskEvent], now: float, *, more: bool) -> None:
        """Take in one page of the ledger."""
        with self._lock:
            shown = self._order.feed_ledger(row, events, now, more=more)
            self._queued = row.queued
            if row.state not in SHOWN_TERMINAL and self._history.terminal is None:
                self._state = row.state
            kick = self._show(shown)
        self._act(kick=kick)

    def tick(self, now: float) -> None:
        """Let time pass: a terminal event that waited long enough is shown."""
        with self._lock:
            kick = self._show(self._order.tick(now))
        self._act(kick=kick)

    def doubt(self, now: float) -> None:
        """Have the hub asked soon: the network may have lost something."""
        with self._lock:
            self._order.ask_now(now)

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

    def _show(self, events: Sequence[TaskEvent]) -> bool:
        """Remember events and queue their callbacks; tell whether the queue is to be kicked."""
        if not events or self._closed:
            return False
        self._history.add(events)
        for event in events:
            self._state = _state_after(self._state, event)
        self._wake()
        return self._queue.add([call for event in events for call in self._calls(event)])

    def _calls(self, event: TaskEvent) -> list[tuple[Callback, TaskEvent]]:
        return [(callback, event) for kind in kinds_of(event) for callback in self._callbacks.get(kind, ())]

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

    def _standing(self, timeout: float | None) -> str:
        waits = ", queued: no instance of the agent has room" if self.queued else ""
        return f"task {self.task_id} is not over after {timeout} s: it is {self._state}{waits}"

    # ------------------------------------------------------------ steps, without the lock

    def _register(self, kind: str, function: EventCallback) -> Callable[[], None]:
        callback = Callback(kind, function)
        with self._lock:
            self._callbacks[kind] = [*self._callbacks.get(kind, []), callback]
            kick = (
                False if self._closed else self._queue.add([(callback, event) for event in self._history.earlier(kind)])
            )
        if kick:
            self._queue.kick()
        return lambda: self._unregister(callback)

    def _unregister(self, callback: Callback) -> None:
        callback.active = False
        with self._lock:
            self._callbacks[callback.kind] = [one for one in self._callbacks[callback.kind] if one is not callback]

    def _act(self, *, kick: bool) -> None:
        """Do what showing events asks for, now that the lock is free."""
        if kick:
            self._queue.kick()
        elif self._history.terminal is not None:
            self._after_callbacks()
        if self._history.terminal is not None:
            self._owner.forget(self)

    def _after_callbacks(self) -> None:
        with self._lock:
            self._ended = self._history.terminal is not None and self._queue.is_idle()

    def _next_events(self, position: int) -> tuple[int, list[TaskEvent]]:
        with self._lock:
            while not self._closed and self._history.end <= position:
                self._check_waitable()
                self._wait(None)
            return self._history.since(position)

    def _stop(self, reason: str | None, *, terminated: bool) -> bool:
        if self._history.terminal is not None:
            return False
        return self._owner.stop_task(self.task_id, reason=reason, terminated=terminated)


def _state_after(state: str, event: TaskEvent) -> str:
    if event.type == "terminal":
        return event.state or "failed"
    if event.type == "system" and event.status in {"queued", "restarted"}:
        return "pending"
    return "running" if event.type in {"progress", "artifact"} else state
