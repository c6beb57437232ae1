"""The consumer's view of one task: its events in order, its end, and what it brought."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.artifacts import DownloadedArtifact, download_artifact
from blocks_worker.client.callbacks import EVERY, Callback
from blocks_worker.client.reading import Reading
from blocks_worker.client.results import TaskResult, save_all
from blocks_worker.client.session_feed import SessionFeed
from blocks_worker.client.session_streams import find_stream, readable
from blocks_worker.client.sse import blocks_of, check_keep_alive
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import StreamUnavailableError, TaskFailedError
from blocks_worker.protocol.lifecycle import INPUT_REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from typing_extensions import Self

    from blocks_worker.client.callbacks import CallbackErrorContext
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session_feed import EventCallback
    from blocks_worker.client.streams import StreamClient, StreamRef
    from blocks_worker.protocol.events import ArtifactRef

    StreamCallback = Callable[[StreamRef], Any]
    # What `sys.exit` raises is no Exception, and is told all the same.
    ErrorCallback = Callable[[Any, CallbackErrorContext], Any]


class TaskSession(SessionFeed):
    """Show one task: wait for its end, read its events and streams, take its artifacts, stop it.

    A session keeps its client alive. The end of ``with session:`` is a `close`; an exception that leaves the block
    does not wait for callbacks.

    Attributes:
        task_id: the task's id.
        owner_id: who sent the task.
        org_id: whose hub it is; with this hub, as `owner_id`.
        status_channel: the channel on which whoever holds its read grant hears of the task.
        idempotent: whether the task was there already, under the same `idempotency_key`: nothing new was sent.
    """

    # ------------------------------------------------------------ how it stands

    @property
    def state(self) -> str:
        """``pending``, ``running``, ``paused``, ``input-required``, ``completed``, ``failed`` or ``canceled``."""
        return self._state

    @property
    def open_question(self) -> TaskEvent | None:
        """The event of the question that is open; None while the task asks nothing."""
        with self._lock:
            return self._history.question if self._state == INPUT_REQUIRED else None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or the task is over, every callback was told and every open stream has ended."""
        is_closed = self._closed or (self._ended and not self._streams.has_open())
        if is_closed:
            self._streams.end_is_known()
        return is_closed

    @property
    def read_token(self) -> str:
        """A grant to read `status_channel` with a client of the network; asked of the hub at each look."""
        return self._owner.read_token(self.task_id, role=self.role)

    def list_events(self) -> list[TaskEvent]:
        """Return the events so far: the last 256, or 4 MiB of them."""
        with self._lock:
            return self._history.events()

    def list_artifacts(self) -> list[ArtifactRef]:
        """Return every artifact so far."""
        with self._lock:
            return [event.artifact_ref for event in self._history.artifacts if event.artifact_ref is not None]

    # ------------------------------------------------------------ streams

    def list_streams(self) -> list[StreamRef]:
        """Return every stream that was announced so far."""
        with self._lock:
            return self._streams.refs()

    def wait_for_stream(self, stream_id: str | None = None, timeout: float | None = None) -> StreamRef:
        """Return the stream of this declared name or id, or the only one, once it was announced.

        Raises:
            TimeoutError: it was not.
            RuntimeError: it will not be: the task is over or the session closed; or there are several and no name.
        """
        what = "no stream" if stream_id is None else f"no stream {stream_id}"
        return self._wait_stream(lambda refs: find_stream(refs, stream_id), what, timeout)

    def wait_for_stream_where(self, predicate: Callable[[StreamRef], bool], timeout: float | None = None) -> StreamRef:
        """Return the first stream for which the predicate holds, once it was announced.

        An exception of the predicate goes to `on_error`, and counts as no.

        Raises:
            TimeoutError: none was.
            RuntimeError: none will be: the task is over or the session closed.
        """

        def first(refs: Sequence[StreamRef]) -> StreamRef | None:
            return next((ref for ref in refs if self._holds(predicate, ref)), None)

        return self._wait_stream(first, "no such stream", timeout)

    def open_all_streams(self, *, reorder_timeout_ms: int | None = None) -> list[StreamClient]:
        """Open all streams that can be read, in the order of their announcement; a second call returns the same."""
        readable = [ref for ref in self.list_streams() if ref.descriptor.local_direction != "outbound"]
        opened = []
        for ref in readable:
            known = self._streams.opened(ref)
            if known is not None:
                opened.append(known)
                continue
            try:
                opened.append(ref.open(reorder_timeout_ms=reorder_timeout_ms))
            except StreamUnavailableError:
                continue
        return opened

    def on_stream(self, callback: StreamCallback) -> Callable[[], None]:
        """Call with each stream, earlier ones included, each on a thread of its own: it may read to the end."""
        registered = Callback("onStream", callback)
        with self._lock:
            self._stream_callbacks = [*self._stream_callbacks, registered]
            known = self._streams.refs()
            self._readers += readable(known)
        self._streams.tell(known, partial(self._tell_stream, registered), are_new=False)
        return lambda: setattr(registered, "active", False)

    # ------------------------------------------------------------ callbacks

    def on_progress(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each progress event; the answer takes the registration back.

        Earlier ones are included, save in a session of `connect`: there `list_events` tells of them.
        """
        return self.register("onProgress", callback)

    def on_artifact(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each artifact event, earlier ones included."""
        return self.register("onArtifact", callback)

    def on_terminal(self, callback: EventCallback) -> Callable[[], None]:
        """Call once, with the terminal event: also when the session is closed right after `wait_for_terminal`."""
        return self.register("onTerminal", callback)

    def on_cancel_requested(self, callback: EventCallback) -> Callable[[], None]:
        """Call when the task was asked to stop: at most once, never after the terminal event."""
        return self.register("onCancelRequested", callback)

    def on_system(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each system event: a warning, a run that begins again, a pause."""
        return self.register("onSystem", callback)

    def on_question(self, callback: EventCallback) -> Callable[[], None]:
        """Call with each question, one that is open now included; `answer` answers it, from the callback too."""
        return self.register("onQuestion", callback)

    def on_event(self, callback: EventCallback) -> Callable[[], None]:
        """Call with every event, before the callbacks of its type."""
        return self.register(EVERY, callback)

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
            AgentAuthFatalError: the client's credential is refused for good, and no word of the task comes any more.
        """
        deadline = Deadline(timeout, self._owner.clock)
        with self._lock:
            while self._history.terminal is None:
                self._check_waitable()
                left = deadline.remaining()
                if left == 0:
                    raise self.not_over(timeout)
                self._wait(left)
            self._streams.end_is_known()
            return self._history.terminal

    def result(self, timeout: float | None = None) -> TaskResult:
        """Return what the run that ended the task brought; None waits for ever.

        What earlier runs brought, which failed or were lost, is in `list_artifacts`.

        Raises:
            TaskFailedError: it failed or was canceled; its `event` is the terminal one.
            TimeoutError: it is not over yet.
        """
        terminal = self.wait_for_terminal(timeout)
        if terminal.state != "completed":
            raise TaskFailedError(self.task_id, terminal)
        with self._lock:
            events = [event for event in self._history.artifacts if event.epoch == terminal.epoch]
        refs = [event.artifact_ref for event in events if event.artifact_ref is not None]
        return TaskResult(self.task_id, [download_artifact(ref, self) for ref in refs])

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
        return iter(self._reading())

    def follow(self, interval: float) -> Iterator[TaskEvent | None]:
        """Yield the events as iteration does, and None whenever none came for so many seconds."""
        return self._reading().paced(interval)

    def sse(self, keep_alive: float = 15.0) -> Iterator[str]:
        """Yield the events as server-sent events for a browser, each text a whole block, up to the terminal one.

        A block ``state`` with ``state``, ``queued`` and ``waitsFor`` comes first and whenever these have changed; that
        the task is over it says behind all other events, right before ``terminal``. Events stand under their types, as
        they travelled. A comment comes whenever there was nothing for `keep_alive` seconds, and ``closed`` at the end
        of a session that was closed before its task was over.

        Raises:
            TypeError: `keep_alive` is no number.
            ValueError: it is not above 0.
        """
        check_keep_alive(keep_alive)
        return blocks_of(self._reading().paced(keep_alive), self._told_state)

    def _told_state(self) -> dict[str, Any]:
        return {"state": self._state, "queued": self.queued, "waitsFor": self.waits_for}

    def _reading(self) -> Reading:
        stored = partial(self._owner.stored_events, self.task_id, role=self.role)
        return Reading(self.task_id, following=self._next_events, stored=stored)

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

    # ------------------------------------------------------------ answering

    def answer(self, question_id: str, value: Any) -> str:
        """Answer the question with this `id` with any JSON; return the state of the task as it is then.

        The one that is open is `open_question`; `TaskClient.answer_task` answers it without its id.

        Raises:
            RpcError: as `TaskClient.answer_task`; a question stays open when the value did not fit.
        """
        if self.role != "consumer":
            raise RuntimeError("only who sent a task may answer it: this session is its agent's owner's")
        return self._owner.answer_task(self.task_id, value, question_id)

    # ------------------------------------------------------------ ending

    def cancel(self, reason: str | None = None) -> bool:
        """Ask the task to stop; tell whether it still ran.

        Safe to repeat, and repeated while no answer comes: one that ended by the first request counts as ended.
        """
        return self._stop(reason, terminated=False)

    def terminate(self, reason: str | None = None) -> bool:
        """Have the task ended soon, whatever its handler does; tell whether it still ran."""
        return self._stop(reason, terminated=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_exc: object) -> None:
        if error is None:
            self.close()
        else:  # what went wrong is told at once
            self.cut()

    def __repr__(self) -> str:
        return f"<TaskSession {self.task_id} {self._state}>"
