"""The reading half of a stream: what came, in order and bounded, for iterators on any thread."""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import RawFrame
from blocks_worker.protocol.streams import chunk_bytes
from blocks_worker.streams.book import LEAST
from blocks_worker.streams.packing import CHUNK, MAX_EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.protocol.streams import Format, Frame

#: Bytes that wait for a slow reader before its writer is slowed, and beyond which the oldest are dropped.
BUFFER_BYTES = 4 * 1024 * 1024
OVERFLOW_BYTES = 12 * 1024 * 1024
#: What an item counts besides its content.
_ITEM = 64


@dataclass(frozen=True)
class InboundMessage:
    """Be one frame as it came.

    Attributes:
        data: its chunks (bytes) or its events, in order; never empty.
        seq: its number with its writer.
        ts: unix milliseconds of the writer.
        format: `bytes` or `events`.
        encoding: `utf8` or `base64`, of the whole frame.
    """

    data: list[Any]
    seq: int
    ts: int
    format: Format
    encoding: str


class Joiner:
    """Put the slices of large events together; they come in order, so one event is under way at a time."""

    def __init__(self) -> None:
        self._id = ""
        self._slices: list[bytes] = []
        self._size = 0

    def add(self, frame: Frame) -> list[Any] | None:
        """Return the event that this slice completes; None when more are to come.

        Raises:
            InvalidMessageError: it does not fit those before it, which are dropped.
        """
        part = frame.multipart
        data = frame.raw[0] if isinstance(frame, RawFrame) else None if frame.data is None else _decoded(frame.data)
        if part is None or data is None:
            raise InvalidMessageError("shape", "this frame is no slice")
        if part.part == 1:
            self._id, self._slices, self._size = part.id, [], 0
        if part.id != self._id or part.part != len(self._slices) + 1:
            self._slices = []
            raise InvalidMessageError("multipart", "a slice of a large event is missing")
        self._add(data)
        if part.part < part.total:
            return None
        whole, self._slices, self._id = b"".join(self._slices), [], ""
        try:
            return [json.loads(whole)]
        except (ValueError, RecursionError) as error:
            raise InvalidMessageError("multipart", "the slices of a large event are not JSON") from error

    def _add(self, slice_: bytes) -> None:
        self._size += len(slice_)
        if self._size > MAX_EVENT:
            self._slices = []
            raise InvalidMessageError("too_large", f"an event of more than {MAX_EVENT} bytes")
        self._slices.append(slice_)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidMessageError("encoding", "a slice is not base64") from error


def opened(frame: Frame, joiner: Joiner) -> InboundMessage | None:
    """Return what a frame holds; None while the slices of a large event are not all there.

    Raises:
        InvalidMessageError: it cannot be read.
    """
    if frame.type == "stream_data":
        chunks = frame.raw if isinstance(frame, RawFrame) else chunk_bytes(frame)
        return InboundMessage(list(chunks), frame.seq, frame.ts, "bytes", frame.encoding)
    events = joiner.add(frame) if frame.multipart is not None else frame.events
    if events is None:
        return None
    return InboundMessage([with_bytes(event) for event in events], frame.seq, frame.ts, "events", "utf8")


def fitting(
    message: InboundMessage, check: Callable[[Any], None], tell: Callable[[str], None]
) -> InboundMessage | None:
    """Return the message without the events that `check` refuses, each of which is told; None when none is left."""
    fit = []
    for event in message.data:
        try:
            check(event)
        except ValueError as error:
            tell(str(error))
        else:
            fit.append(event)
    return replace(message, data=fit) if fit else None


def with_bytes(value: Any) -> Any:
    """Return an event with its bytes as they were written."""
    if isinstance(value, dict):
        if set(value) == {"$binary"} and isinstance(value["$binary"], str):
            try:
                return base64.b64decode(value["$binary"], validate=True)
            except (binascii.Error, ValueError):
                return value
        return {key: with_bytes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_bytes(inner) for inner in value]
    return value


def size_of(frame: Frame) -> int:
    """Return about how many bytes a frame takes: its writer counts no more, and hears before a window is over."""
    return max(LEAST, _content(frame))


def _content(frame: Frame) -> int:
    if isinstance(frame, RawFrame):
        return sum(map(len, frame.raw)) + CHUNK * len(frame.raw)
    if frame.chunks is not None:
        return sum(map(_length, frame.chunks)) + CHUNK * len(frame.chunks)
    if frame.data is not None:
        return len(frame.data)
    return sum(_weight(event) for event in frame.events or ())


def _weight(event: Any) -> int:
    """Return about how many bytes an event takes."""
    if isinstance(event, str):
        return _length(event) + 50
    if isinstance(event, dict):
        return 64 + sum(_weight(key) + _weight(value) for key, value in event.items())
    if isinstance(event, list):
        return 56 + sum(map(_weight, event))
    return 32


def _length(text: str) -> int:
    """Return about how many bytes a text takes where all but ASCII is escaped."""
    return len(text) if text.isascii() else 6 * len(text)


class StreamReader:
    """Keep what came until it is taken; every iterator ends when the stream has ended and all is taken."""

    def __init__(self, form: Format) -> None:
        self.format = form
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._waiting: deque[tuple[InboundMessage, int]] = deque()
        self._taken_of_first = 0
        self._bytes = 0
        self._ended = False

    def put(self, message: InboundMessage, size: int) -> int:
        """Take a message; return the bytes of older ones that had to be dropped for it."""
        dropped = 0
        with self._lock:
            if self._ended:
                return 0
            self._waiting.append((message, size + _ITEM))
            self._bytes += size + _ITEM
            while self._bytes > OVERFLOW_BYTES and len(self._waiting) > 1:
                dropped += self._drop_first()
            self._came.notify_all()
        return dropped

    def end(self) -> None:
        """Say that nothing more comes; what came can still be taken."""
        with self._lock:
            self._ended = True
            self._came.notify_all()

    @property
    def is_ended(self) -> bool:
        """Tell whether nothing more comes."""
        return self._ended

    @property
    def has_waiting(self) -> bool:
        """Tell whether there is something to take."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Tell whether so much waits that the writer is to be slowed."""
        return self._bytes >= BUFFER_BYTES

    def messages(self) -> Iterator[InboundMessage]:
        """Yield whole messages, or what is left of one that was begun item by item."""
        while True:
            message = self._take_message()
            if message is None:
                return
            yield message

    def items(self) -> Iterator[Any]:
        """Yield chunks or events, one by one."""
        while True:
            found = self._take_item()
            if found is None:
                return
            yield found[0]

    def _take_message(self) -> InboundMessage | None:
        with self._lock:
            if not self._wait():
                return None
            message, size = self._waiting.popleft()
            begun, self._taken_of_first = self._taken_of_first, 0
            self._took(size)
        if not begun:
            return message
        return InboundMessage(message.data[begun:], message.seq, message.ts, message.format, message.encoding)

    def _take_item(self) -> tuple[Any] | None:
        with self._lock:
            if not self._wait():
                return None
            message, size = self._waiting[0]
            item = message.data[self._taken_of_first]
            self._taken_of_first += 1
            if self._taken_of_first == len(message.data):
                self._waiting.popleft()
                self._taken_of_first = 0
                self._took(size)
            return (item,)

    def _wait(self) -> bool:
        """Wait for something to take; tell whether there is. With the lock held."""
        while not self._waiting:
            if self._ended:
                return False
            self._came.wait()
        return True

    def _took(self, size: int) -> None:
        self._bytes -= size
        self._came.notify_all()

    def _drop_first(self) -> int:
        _, size = self._waiting.popleft()
        self._taken_of_first = 0
        self._bytes -= size
        return size


class StreamFile(io.BufferedReader):
    """Be what comes as a binary file: lines and pieces are given as they arrive.

    `read` of so many bytes waits for the first of them and gives as many as are there; without a number it gives all
    up to the end of the stream.
    """

    def __init__(self, chunks: Iterator[bytes], has_waiting: Callable[[], bool]) -> None:
        super().__init__(_Chunks(chunks))
        self._has_waiting = has_waiting

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to so many bytes; fewer when no more came yet, none at the end."""
        if size is None or size < 0:
            return super().read(size)
        found = self.read1(size)
        while found and len(found) < size and self._has_waiting():
            more = self.read1(size - len(found))
            if not more:
                break
            found += more
        return found


class _Chunks(io.RawIOBase):
    """Read chunks: whatever is there is returned, the end is the end of the stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill as much of the buffer as came, waiting for the first byte; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
