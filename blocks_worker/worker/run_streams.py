"""The streams of one run: opened by the card's rules, announced, and ended with the run."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Deadline, ServiceThread
from blocks_worker.context.streams import ExternalStreamObject, StreamObject
from blocks_worker.errors import TaskCancelledError, TaskFinishedError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.streams import Announced, StreamName
from blocks_worker.worker.stream_rules import AskedStream, ChosenStream, choose, values_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.streams.exchange import Opened
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.streams import WorkerStreams

_logger = logging.getLogger(__name__)

#: Seconds for the streams of one run to be with the network when it ends: longer than most outages. Who was told to
#: stop does not wait so long.
FLUSH_TIMEOUT = 30.0
#: Bytes of the metadata of a stream, as JSON.
MAX_METADATA = 8 * 1024


class RunStreams:
    """Open streams for one run, and end them."""

    def __init__(
        self, worker: WorkerStreams, run: Run, task: StartTaskMessage, emit: Callable[[EventBody], None]
    ) -> None:
        self._worker = worker
        self._run = run
        self._task = task
        self._emit = emit
        self._lock = threading.Lock()
        self._count = 0
        self._open: dict[str, StreamObject] = {}
        #: What this run has of the process's streams, with the arguments it asked with.
        self._shared: dict[str, tuple[Any, ...]] = {}
        self._external: dict[str, ExternalStreamObject] = {}
        #: Nothing is opened any more, and whoever still writes finds its stream ended: that is no crash.
        self._ending = False

    def create(  # noqa: PLR0913 - the arguments that users know
        self,
        *,
        direction: str | None = None,
        format: str | None = None,  # noqa: A002 - the name that users know
        declared_stream: str | None = None,
        on_activate: Callable[[StreamObject], None] | None = None,
        metadata: dict[str, Any] | None = None,
        external: bool = False,
        bundle_size_bytes: int | None = None,
        max_latency_ms: int | None = None,  # noqa: ARG002 - nothing waits here for more: what is there goes at once
        subscribe_grace_ms: int = 0,
    ) -> StreamObject | ExternalStreamObject:
        """Open a stream and announce it.

        Raises:
            RuntimeError: the task, the card or a rule does not allow it.
            TypeError, ValueError: an argument cannot be used.
            TaskFinishedError: the task is over.
        """
        _check_metadata(metadata)
        _check_calls(on_activate, subscribe_grace_ms)
        self._check_open()
        asked = AskedStream(direction=direction, format=format, declared_stream=declared_stream, external=external)
        chosen = choose(asked, self._worker.declared, task_kind=self._task.task_kind, has_stream=self._task.has_stream)
        if external:
            return self._hand_out(chosen, metadata)
        known = self._known(chosen, bundle_size_bytes)
        if known is not None:
            return known
        stream = self._opened(chosen, bundle_size_bytes, metadata)
        if subscribe_grace_ms > 0:
            stream.wait_for_reader(subscribe_grace_ms / 1000)
        if on_activate is not None:
            self._activate(stream, on_activate)
        return stream

    @property
    def is_used(self) -> bool:
        """Whether a stream was opened or handed out."""
        return bool(self._count or self._shared)

    def for_values(self) -> str | None:
        """Return the name of the stream that takes the values of a generator; None: there is none for them."""
        return values_stream(self._worker.declared, has_stream=self._task.has_stream)

    def open_for_values(self, name: str) -> StreamObject:
        """Open that stream and announce it."""
        self._check_open()
        asked = AskedStream(direction="outbound", format="events", declared_stream=name)
        task = self._task
        chosen = choose(asked, self._worker.declared, task_kind=task.task_kind, has_stream=task.has_stream)
        return self._opened(chosen, None, None)

    def has(self, stream_id: str) -> bool:
        """Tell whether this run uses the stream."""
        return stream_id in self._open or stream_id in self._external

    def end(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """End all, with what was written on its way; the consumers are told where each ends."""
        with self._lock:
            self._ending = True
            streams = list(self._open.values())
        if not streams and not self._external:
            return
        deadline = Deadline(timeout, self._worker.clock)
        ends = {stream.stream_id: self._finish(stream, deadline) for stream in streams}
        self._emit(EventBody(type="progress", stream_event="stream_ended", streams=ends))
        self._forget()

    def drop(self) -> None:
        """End all at once."""
        self._ending = True
        self._forget()

    def fail(self, stream_id: str, reason: str) -> None:
        """End one stream for a reason."""
        stream = self._open.get(stream_id)
        if stream is not None:
            stream.endpoint.fail("other", reason)
            stream.close()

    # ------------------------------------------------------------ steps

    def _check_open(self) -> None:
        if self._ending:
            raise TaskFinishedError(self._run.task_id)

    def _known(self, chosen: ChosenStream, bundle: int | None) -> StreamObject | None:
        """Return the shared stream that this run has already.

        Raises:
            ValueError: it was opened with other arguments.
        """
        with self._lock:
            stream, asked = self._open.get(chosen.name), self._shared.get(chosen.name)
        if not chosen.is_shared or stream is None:
            return None
        if asked != _asked(chosen, bundle):
            raise ValueError(f"the shared stream {chosen.name!r} is open with other arguments: {asked}")
        return stream

    def _opened(self, chosen: ChosenStream, bundle: int | None, metadata: dict[str, Any] | None) -> StreamObject:
        worker, run = self._worker, self._run
        key = chosen.name if chosen.is_shared else self._next_id()
        name = StreamName(task_id=run.task_id, stream_id=key, hand_out=True)
        position = None
        if chosen.is_shared:
            opened = worker.share(key, run.task_id, _asked(chosen, bundle), lambda: worker.open(chosen, name, bundle))
            # Who joins late reads from here on, not what was said before.
            position = worker.exchange().position()
        else:
            opened = worker.open(chosen, name, bundle)
        announced = _announced(chosen, opened, metadata, opened.position if position is None else position)
        stream = StreamObject(
            opened.endpoint,
            call=worker.exchange().callbacks.call,
            leave=worker.leave,
            check=worker.checks.outgoing(chosen.declared),
        )
        self._keep(chosen, stream, bundle)
        run.on_cancel(lambda: stream.interrupt(TaskCancelledError(run.task_id)))
        self._announce(chosen, key, announced)
        return stream

    def _keep(self, chosen: ChosenStream, stream: StreamObject, bundle: int | None) -> None:
        with self._lock:
            late = self._ending
            self._open[stream.stream_id] = stream
            if chosen.is_shared:
                self._shared[stream.stream_id] = _asked(chosen, bundle)
        if late:
            self._forget()
            raise TaskFinishedError(self._run.task_id)

    def _hand_out(self, chosen: ChosenStream, metadata: dict[str, Any] | None) -> ExternalStreamObject:
        stream_id = self._next_id()
        granted = self._worker.hand_out(StreamName(task_id=self._run.task_id, stream_id=stream_id, hand_out=True))

        def announce(more: dict[str, Any]) -> None:
            said = {**(metadata or {}), **more}
            _check_metadata(said)
            announced = Announced(
                channel=granted.channel,
                direction=chosen.direction,
                format=chosen.format,
                affinity=chosen.affinity,
                token=granted.consumer_token,
                metadata=said,
            )
            self._announce(chosen, stream_id, announced)

        external = ExternalStreamObject(
            stream_id=stream_id, channel=granted.channel, token=granted.agent_token or "", announce=announce
        )
        self._external[stream_id] = external
        return external

    def _announce(self, chosen: ChosenStream, stream_id: str, announced: Announced) -> None:
        self._emit(
            EventBody(
                type="progress",
                stream_event="stream_started",
                streams={stream_id: announced},
                declared_stream=chosen.name if chosen.declared is not None else None,
            )
        )

    def _activate(self, stream: StreamObject, on_activate: Callable[[StreamObject], None]) -> None:
        """Call the user's function on a thread of its own: it may write for as long as the stream lives."""

        def run() -> None:
            try:
                on_activate(stream)
            except (TaskCancelledError, TaskFinishedError):
                _logger.debug("stream_callback_stopped", extra={"stream": stream.stream_id})
            except BaseException as error:
                if self._ending or self._run.cancel_event.is_set():
                    _logger.debug("stream_callback_stopped", extra={"stream": stream.stream_id}, exc_info=True)
                    return
                _logger.exception("stream_crashed", extra={"task": self._run.task_id, "stream": stream.stream_id})
                self._worker.fail(stream.stream_id, str(error) or type(error).__name__)

        # A daemon: it is the user's code, and nobody can end it.
        ServiceThread(f"stream-{stream.stream_id}", run, daemon=True).start()

    def _finish(self, stream: StreamObject, deadline: Deadline) -> int:
        """End what is written, and tell the consumers when some of it is lost; return the number behind its last."""
        writer = stream.endpoint.writer
        if writer is None:
            return 0
        if stream.stream_id in self._shared:  # others go on writing
            return writer.framed(deadline.remaining())
        writer.end()
        if not stream.flush(deadline.within(FLUSH_TIMEOUT)):
            why = writer.why_broken or "the network did not take it in time"
            fields = {"task": self._run.task_id, "stream": stream.stream_id, "why": why}
            _logger.warning("stream_not_delivered", extra=fields)
            text = f"the end of stream {stream.stream_id} may be lost: {why}"
            self._emit(EventBody(type="system", status="warning", message=text))
        return writer.next_seq

    def _forget(self) -> None:
        with self._lock:
            streams, self._open = list(self._open.values()), {}
            shared, self._shared = self._shared, {}
            external, self._external = list(self._external.values()), {}
        for stream in streams:
            if stream.stream_id in shared:
                stream.detach()
                self._worker.release(stream.stream_id, self._run.task_id)
            else:
                stream.close()
        for each in external:
            each.end()

    def _next_id(self) -> str:
        with self._lock:
            self._count += 1
            return f"{self._run.task_id}-{self._count}"


def _asked(chosen: ChosenStream, bundle: int | None) -> tuple[Any, ...]:
    return (chosen.direction, chosen.format, bundle)


def _announced(chosen: ChosenStream, opened: Opened, metadata: dict[str, Any] | None, position: int) -> Announced:
    """Return what the consumers are told; a task that joins a shared stream sees what is written from now on."""
    writer = opened.endpoint.writer
    return Announced(
        channel=opened.granted.channel,
        direction=chosen.direction,
        format=chosen.format,
        affinity=chosen.affinity,
        token=opened.granted.consumer_token,
        metadata=metadata or {},
        position=str(position),
        writer=writer.sender if writer is not None else None,
        first=writer.framed(1.0) if writer is not None else 0,
    )


def _check_calls(on_activate: object, subscribe_grace_ms: object) -> None:
    if on_activate is not None and not callable(on_activate):
        raise TypeError(f"on_activate is a function of the stream, not {on_activate!r}")
    if not isinstance(subscribe_grace_ms, (int, float)):
        raise TypeError(f"subscribe_grace_ms is a number of milliseconds, not {subscribe_grace_ms!r}")


def _check_metadata(metadata: dict[str, Any] | None) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise TypeError(f"the metadata of a stream are a dict, not {type(metadata).__name__}")
    if len(encode(metadata)) > MAX_METADATA:
        raise ValueError(f"the metadata of a stream are at most {MAX_METADATA} bytes as JSON")
