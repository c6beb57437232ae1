"""A stream as its user has it: write, read in the form that suits, and hear of trouble and of the end."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import StreamWriteError
from blocks_worker.streams.reader import StreamFile

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.reader import InboundMessage
    from blocks_worker.streams.trouble import Category, StreamError

#: Seconds that `end` waits for the network to take what was written: longer than most outages.
END_TIMEOUT = 30.0

_WELL: frozenset[Category] = frozenset({"connected", "reconnected"})


class LiveStream:
    """Be one open stream; every member may be used from any thread.

    Callbacks run on `call`'s thread, in order, never on a thread of the network. `leave` is told when it has ended.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        call: Callable[[Callable[[], None]], None],
        leave: Callable[[Endpoint], None],
    ) -> None:
        self.endpoint = endpoint
        self._call = call
        self._leave = leave
        self._lock = threading.Lock()
        self._end_callbacks: list[Callable[[], None]] = []
        self._error_callbacks: list[Callable[[StreamError], None]] = []
        self._last_error: StreamError | None = None
        self._ended = threading.Event()
        self._is_detached = False
        self._stop: BaseException | None = None
        endpoint.listen(self)

    @property
    def stream_id(self) -> str:
        """The stream's id."""
        return self.endpoint.identity.stream_id

    @property
    def channel(self) -> str:
        """The channel on which the agent speaks."""
        return self.endpoint.identity.channel

    @property
    def uuid(self) -> str:
        """Who this side is on the wire."""
        return self.endpoint.name

    @property
    def is_active(self) -> bool:
        """Tell whether it has not ended."""
        return not self._ended.is_set()

    @property
    def is_bytes(self) -> bool:
        """Tell whether it carries bytes, not events."""
        return self.endpoint.form == "bytes"

    def ended_event(self) -> threading.Event:
        """Return the event that is set when the stream has ended, for waits: it is not to be set by hand."""
        return self._ended

    def write(self, data: Any) -> None:
        """Send data: text or bytes on a bytes stream, any JSON value on an events stream.

        Returns at once while there is room; waits while 1 MiB is on its way to the network, or to readers that
        are there.

        Raises:
            RuntimeError: the stream has ended, or this side only reads.
            StreamWriteError: earlier data could not be delivered after all tries.
            TypeError, ValueError: this stream does not carry such data.
            TaskCancelledError: the task is to stop, and there was no room.
        """
        writer = self.endpoint.writer
        if writer is None:
            raise RuntimeError(f"the stream {self.stream_id} is only read on this side")
        if self._is_detached:
            raise RuntimeError(f"the stream {self.stream_id} has ended for this task: nothing more can be written")
        writer.write(data, self._stopped)

    def end(self) -> None:
        """Write nothing more; return when the network has all. A second call changes nothing.

        Raises:
            StreamWriteError: what was written could not be delivered.
        """
        writer = self.endpoint.writer
        if writer is None:
            self.endpoint.close()
        elif not self._is_detached:
            writer.end()
            flushed = writer.flushed(END_TIMEOUT, self._stopped)
            self.endpoint.settle()
            if not flushed:
                raise StreamWriteError(self.stream_id, writer.why_broken or "the network does not take it in time")

    def close(self) -> None:
        """End both directions at once: iterators stop after what has come."""
        self.endpoint.close()

    def flush(self, timeout: float) -> bool:
        """Wait until the network has what was written; tell whether it has."""
        writer = self.endpoint.writer
        return writer is None or writer.flushed(timeout, self._stopped)

    def wait_for_reader(self, timeout: float) -> None:
        """Wait until somebody reads, where something is to be written."""
        if self.endpoint.writer is not None:
            self.endpoint.writer.wait_for_reader(timeout, self._stopped)

    def interrupt(self, error: BaseException) -> None:
        """Have whoever waits here for room raise this; the first one stays."""
        self._stop = self._stop or error
        if self.endpoint.writer is not None:
            self.endpoint.writer.wake()

    def detach(self) -> None:
        """Be ended for this user, while the stream goes on for others."""
        self._is_detached = True
        self.endpoint.unlisten(self)
        self._tell_end()

    def close_within(self, seconds: float) -> None:
        """Let what is on its way come, at most so long, and then close; what is only written closes at once."""
        if seconds <= 0 or not self.endpoint.is_reading:
            self.close()
        else:
            self.endpoint.close_within(seconds)

    def report(self, category: Category, text: str) -> None:
        """Tell the callbacks of trouble."""
        self.endpoint.fail(category, text)

    def end_at(self, end: int) -> None:
        """Say where the other side's frames end, as the task's events tell it."""
        self.endpoint.end_at(end)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this when the stream has ended; at once when it has."""
        with self._lock:
            if not self._ended.is_set():
                self._end_callbacks.append(callback)
                return
        self._call(callback)

    def on_error(self, callback: Callable[[StreamError], None]) -> None:
        """Call this with every `StreamError`; with the last trouble too when it came before."""
        with self._lock:
            self._error_callbacks.append(callback)
            last = self._last_error
        if last is not None:
            self._call(lambda: callback(last))

    @property
    def inbound(self) -> Iterator[InboundMessage]:
        """Yield what comes, frame by frame; ends with the stream."""
        return self._consumed(self._reader().messages())

    def bytes(self) -> Iterator[bytes]:
        """Yield what comes, chunk by chunk, always as bytes; ends with the stream."""
        reader = self._reader()
        if reader.format != "bytes":
            raise RuntimeError(f"the stream {self.stream_id} carries events: use events()")
        return self._consumed(reader.items())

    def events(self) -> Iterator[Any]:
        """Yield what comes, event by event; ends with the stream."""
        reader = self._reader()
        if reader.format != "events":
            raise RuntimeError(f"the stream {self.stream_id} carries bytes: use bytes()")
        return self._consumed(reader.items())

    def as_file(self) -> io.BufferedReader:
        """Return what comes as a binary file; lines and pieces can be read as they arrive."""
        reader = self._reader()
        return StreamFile(self.bytes(), lambda: reader.has_waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def _reader(self) -> Any:
        reader = self.endpoint.reader
        if reader is None:
            raise RuntimeError(f"the stream {self.stream_id} is only written on this side")
        return reader

    def _consumed(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.endpoint.consumed()
            yield item

    def troubled(self, error: StreamError) -> None:
        """Pass trouble on to the callbacks; a fatal one ends the stream after them."""
        with self._lock:
            if error.category not in _WELL:
                self._last_error = error
            callbacks = list(self._error_callbacks)
        for callback in callbacks:
            self._call(partial(callback, error))
        if error.fatal:
            self.closing()

    def closing(self) -> None:
        """End the stream after the callbacks."""
        self._call(self.endpoint.close)

    def finished(self) -> None:
        """Pass the end on to the callbacks, and let the stream go."""
        self._tell_end()
        self._leave(self.endpoint)

    def _tell_end(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            callbacks, self._end_callbacks = self._end_callbacks, []
        for callback in callbacks:
            self._call(callback)

    def _stopped(self) -> BaseException | None:
        return self._stop
