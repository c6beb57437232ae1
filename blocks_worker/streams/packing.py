"""From what is written to frames: pieces that fit, bundled in order; text, bytes and events never share a frame."""

from __future__ import annotations

import base64
import json
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import RAW, RawFrame
from blocks_worker.protocol.streams import Multipart
from blocks_worker.transports.envelope import DEPTH, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.protocol.streams import Format

#: Bytes of a frame around its content, the longest ids and numbers included.
HEAD = 640
#: Bytes of one event, which travels in slices when it is too large for a frame.
MAX_EVENT = 64 * 1024 * 1024
#: Least room for content that a limit must leave.
LEAST = 256
#: Bytes with which a frame takes nothing more, unless told otherwise: then one of bytes as they are is filled.
BUNDLE = 4_096
#: Bytes before a chunk that travels as it is, and room for those of one frame besides its content: a bundle has it.
CHUNK = 4
CHUNKS = 1024
#: What a byte begins with that goes on with a character of UTF-8.
_FOLLOWS, _FOLLOWS_MASK = 0x80, 0xC0

_Kind = Literal["utf8", "base64", "event", "slice"]


class Piece(NamedTuple):
    """Be what goes into one frame whole; `size` is its bytes as it travels, and a `value` of bytes goes as it is."""

    kind: _Kind
    value: Any
    size: int


class RawSlice(NamedTuple):
    """Be a slice of a large event that travels as it is."""

    part: Multipart
    data: bytes


def pieces_of(data: Any, form: Format, *, limit: int, name: Callable[[], str], raw: int = 0) -> Iterator[Piece]:
    """Yield what was written, cut so that each piece fits a frame of `limit` bytes.

    `name` gives what a large event's slices are called together. `raw`: most bytes of content of a frame that carries
    text, bytes and slices as they are; 0 where all has to be JSON.

    Raises:
        TypeError: a bytes stream takes text and bytes only.
        InvalidMessageError: an event is not JSON, or too large.
    """
    room = max(LEAST, limit - HEAD)
    if form == "events":
        return _event(data, room, name, raw)
    if isinstance(data, str):
        _check_text(data)
        return _raw_text(data.encode(), raw) if raw else _text(data, room)
    if isinstance(data, (bytes, bytearray, memoryview)):
        if isinstance(data, bytes) and 0 < len(data) <= raw:  # nobody can change it: no copy
            return iter([Piece("base64", data, len(data) + CHUNK)])
        view = memoryview(data).cast("B")
        return _raw_bytes(view, raw) if raw else _bytes(view, room)
    raise TypeError(f"a bytes stream takes str, bytes, bytearray or memoryview, not {type(data).__name__}")


def without_bytes(value: Any) -> Any:
    """Return an event as it travels: bytes inside stand as ``{"$binary": base64}``, tuples as lists."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: without_bytes(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_bytes(inner) for inner in value]
    return value


class Packer:
    """Number the pieces of one writer and put them into frames."""

    def __init__(self, *, stream_id: str, sender: str, bundle: int, limit: int, raw: int = 0) -> None:
        self._head = {"streamId": stream_id, "sender": sender}
        self._bundle = bundle
        self._room = max(LEAST, limit - HEAD)
        self._raw_content = raw
        self._raw_bundle = bundle if bundle != BUNDLE else raw + CHUNKS
        self._pending: deque[Piece] = deque()
        #: Bytes that wait to be put into frames.
        self.waiting = 0
        #: Number of the next frame.
        self.seq = 0

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return len(self._pending)

    def add(self, piece: Piece) -> None:
        """Take a piece, after all others."""
        self._pending.append(piece)
        self.waiting += piece.size

    def take(self, ts: int) -> dict[str, Any] | None:
        """Return the next frame as it travels, or as a `RawFrame` alone under its key; None when nothing waits."""
        if not self._pending:
            return None
        first = self._next()
        if isinstance(first.value, (bytes, RawSlice)):
            return {RAW: self._raw(first, first.value, ts)}
        if first.kind == "slice":
            return {"type": "stream_events", **self._numbered(ts), **first.value}
        values, size = [first.value], first.size
        while self._joins(first.kind, size):
            piece = self._next()
            values.append(piece.value)
            size += piece.size
        if first.kind == "event":
            return {"type": "stream_events", **self._numbered(ts), "encoding": "utf8", "events": values}
        return {"type": "stream_data", **self._numbered(ts), "encoding": first.kind, "chunks": values}

    def _raw(self, first: Piece, value: bytes | RawSlice, ts: int) -> RawFrame:
        make = partial(RawFrame, stream_id=self._head["streamId"], sender=self._head["sender"], seq=self.seq, ts=ts)
        self.seq += 1
        if isinstance(value, RawSlice):
            return make(type="stream_events", multipart=value.part, raw=[value.data])
        values, size = [value], first.size
        while self._joins_raw(first.kind, size, len(values)):
            piece = self._next()
            values.append(piece.value)
            size += piece.size
        encoding: Literal["utf8", "base64"] = "base64" if first.kind == "base64" else "utf8"
        return make(type="stream_data", encoding=encoding, raw=values)

    def _joins_raw(self, kind: _Kind, size: int, count: int) -> bool:
        if size >= self._raw_bundle or not self._pending:
            return False
        piece = self._pending[0]
        content = size + piece.size - (count + 1) * CHUNK
        return piece.kind == kind and content <= self._raw_content and size + piece.size <= self._raw_content + CHUNKS

    def end(self, ts: int) -> dict[str, Any]:
        """Return the frame that says that nothing more comes."""
        return {"type": "stream_end", **self._numbered(ts)}

    def _next(self) -> Piece:
        piece = self._pending.popleft()
        self.waiting -= piece.size
        return piece

    def _joins(self, kind: _Kind, size: int) -> bool:
        if size >= self._bundle or not self._pending:
            return False
        piece = self._pending[0]
        return piece.kind == kind and size + piece.size <= self._room

    def _numbered(self, ts: int) -> dict[str, Any]:
        head = {**self._head, "seq": self.seq, "ts": ts}
        self.seq += 1
        return head


def _text(text: str, room: int) -> Iterator[Piece]:
    start = 0
    while start < len(text):
        # No character takes less than a byte, so more than `room` of them never fit; each cut is checked.
        count = min(room, len(text) - start)
        size = _size(text[start : start + count])
        while size > room:
            count = max(1, min(count - 1, count * room // size))
            size = _size(text[start : start + count])
        yield Piece("utf8", text[start : start + count], size)
        start += count


def _bytes(data: memoryview, room: int) -> Iterator[Piece]:
    most = (room - 4) * 3 // 4
    for start in range(0, len(data), most):
        value = base64.b64encode(data[start : start + most]).decode()
        yield Piece("base64", value, len(value) + 4)


def _raw_text(data: bytes, limit: int) -> Iterator[Piece]:
    start = 0
    while start < len(data):
        end = min(start + limit, len(data))
        while end < len(data) and data[end] & _FOLLOWS_MASK == _FOLLOWS:
            end -= 1
        yield Piece("utf8", data[start:end], end - start + CHUNK)
        start = end


def _raw_bytes(data: memoryview, limit: int) -> Iterator[Piece]:
    for start in range(0, len(data), limit):
        value = bytes(data[start : start + limit])
        yield Piece("base64", value, len(value) + CHUNK)


def _event(value: Any, room: int, name: Callable[[], str], raw: int) -> Iterator[Piece]:
    try:
        event = without_bytes(value)
    except RecursionError as error:
        raise InvalidMessageError("depth", f"an event nests deeper than {DEPTH - 4}") from error
    check(event)
    if _depth_of(event) > DEPTH - 4:
        raise InvalidMessageError("depth", f"an event nests deeper than {DEPTH - 4}")
    text = json.dumps(event, allow_nan=False)
    if len(text) <= room:
        return iter([Piece("event", event, len(text) + 2)])
    if len(text) > MAX_EVENT:
        raise InvalidMessageError("too_large", f"an event of {len(text)} bytes as JSON, and {MAX_EVENT} are allowed")
    return _raw_slices(text.encode(), raw, name()) if raw else _slices(text.encode(), room, name())


def _raw_slices(data: bytes, limit: int, name: str) -> Iterator[Piece]:
    total = max(2, -(-len(data) // limit))
    most = -(-len(data) // total)
    for part in range(total):
        value = data[part * most : (part + 1) * most]
        about = Multipart(id=name, part=part + 1, total=total)
        yield Piece("slice", RawSlice(about, value), len(value) + CHUNK)


def _slices(data: bytes, room: int, name: str) -> Iterator[Piece]:
    most = (room - 4) * 3 // 4
    total = -(-len(data) // most)
    for part in range(total):
        value = base64.b64encode(data[part * most : (part + 1) * most]).decode()
        slice_ = {"encoding": "utf8", "multipart": {"id": name, "part": part + 1, "total": total}, "data": value}
        yield Piece("slice", slice_, len(value) + 4)


def _depth_of(value: Any) -> int:
    deepest, pending = 1, [(value, 1)]
    while pending:
        item, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            pending.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list):
            pending.extend((inner, depth + 1) for inner in item)
    return deepest


def _check_text(text: str) -> None:
    """Refuse half a character before any of the text is taken."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidMessageError("text", "a text holds half a character") from error


def _size(text: str) -> int:
    return len(json.dumps(text)) + 2
