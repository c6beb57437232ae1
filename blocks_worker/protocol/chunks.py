"""Bytes of streams on a link: binary frames with fixed headers, which the hub passes on as they came.

A link's frame that begins with `SPOKEN` (to the hub) or `BROUGHT` (from it) is one publish; any other is JSON. What is
published is a *bundle*: its producer, the number of its first message, and the messages, each a header and its chunks.
"""

from __future__ import annotations

from itertools import accumulate
from struct import Struct
from struct import error as StructError  # noqa: N812 - the library's name says nothing here
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.streams import MAX_SEQ, Frame, Multipart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: First bytes of a frame; that of JSON is none of them.
SPOKEN, BROUGHT = b"\x01", b"\x02"
#: Bytes of content that one bundle is filled with, and of the whole of it: the longest names are some 2 KiB. A chunk
#: takes 5 bytes at least, and their count 16 bits: no more than 320 KiB fit.
FILLED = 256 * 1024
MAX_BUNDLE = FILLED + 4 * 1024
#: Under which key a message of a transport holds its frame.
RAW = "raw"

#: Of what is spoken: number of the question (0: none), of the grant, lengths of key, user and channel.
_SPOKEN = Struct(">cQQHHH")
#: Of what is brought: follower, position, length of the channel.
_BROUGHT = Struct(">cQQH")
#: Of a bundle: number of its first message, how many there are, length of the producer.
_BUNDLE = Struct(">QHH")
#: Of a message: kind, number, time, lengths of stream and sender, how many chunks.
_HEAD = Struct(">BQQHHH")
#: Of a slice besides: part, of how many, length of its name.
_SLICE = Struct(">IIH")
_LENGTH = Struct(">I")
_TEXT, _BYTES, _PART = 0, 1, 2
_NAME = 128
#: Characters of a keyset and of a user id, as where they are said in JSON.
_KEY, _USER = 512, 92
_NUMBER = 2**63 - 1
#: Slices of the largest event.
_PARTS = 100_000
#: As many as an envelope may hold: the same publish is read as one by those who poll.
_MESSAGES = 100


class RawFrame(Frame):
    """A frame whose chunks, or whose slice, are the bytes themselves: text is UTF-8."""

    raw: list[bytes] = []


class Spoken(NamedTuple):
    """Be one publish on its way to the hub; the bundle is a part of the frame that it came in."""

    id: int
    grant: int
    key: str
    user: str
    channel: str
    bundle: memoryview


class Brought(NamedTuple):
    """Be one publish on its way to a follower; the bundle is a part of the frame that it came in."""

    follower: int
    position: int
    channel: str
    bundle: memoryview


def spoken(number: int, grant: int, about: tuple[str, str, str], bundle: Iterable[bytes]) -> bytes:
    """Return the frame of a publish to the hub: about which keyset, user and channel it is, and what `bundles` gave."""
    names = [text.encode() for text in about]
    return b"".join([_SPOKEN.pack(SPOKEN, number, grant, *map(len, names)), *names, *bundle])


def read_spoken(frame: bytes | bytearray) -> Spoken:
    """Return the publish that a frame is.

    Raises:
        InvalidMessageError: it is none.
    """
    with _Whole():
        _, number, grant, *lengths = _SPOKEN.unpack_from(frame)
        ends = list(accumulate(lengths, initial=_SPOKEN.size))
        key, user, channel = [frame[end - length : end].decode() for length, end in zip(lengths, ends[1:], strict=True)]
        if len(key) > _KEY or len(user) > _USER or number > _NUMBER or grant > _NUMBER:
            raise _broken()
        return Spoken(number, grant, key, user, channel, _bundle_of(frame, ends[-1]))


def brought(follower: int, position: int, channel: str, bundle: bytes | memoryview) -> bytes:
    """Return the frame of a publish to a follower."""
    name = channel.encode()
    return b"".join([_BROUGHT.pack(BROUGHT, follower, position, len(name)), name, bundle])


def read_brought(frame: bytes | bytearray) -> Brought:
    """Return the publish that a frame is.

    Raises:
        InvalidMessageError: it is none.
    """
    with _Whole():
        _, follower, position, length = _BROUGHT.unpack_from(frame)
        at = _BROUGHT.size + length
        return Brought(follower, position, frame[_BROUGHT.size : at].decode(), _bundle_of(frame, at))


def framed(operations: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the frames for what waits to be sent, in order: operations in JSON share one, each bundle has its own."""
    texts: list[bytes] = []
    for operation in operations:
        if not operation.startswith(BROUGHT):
            texts.append(operation)
            continue
        if texts:
            yield b"[%b]" % b",".join(texts)
            texts = []
        yield operation
    if texts:
        yield b"[%b]" % b",".join(texts)


def bundles(frames: Sequence[RawFrame], producer: str, first: int) -> Iterator[tuple[list[bytes], int]]:
    """Yield frames in as few bundles as fit, numbered from `first`, each in its parts and with how many it holds."""
    name = producer.encode()
    around = _BUNDLE.size + len(name)
    waiting: list[bytes] = []
    size, count = around, 0
    for frame in frames:
        parts = _parts(frame)
        length = sum(map(len, parts))
        if count and (size + length > MAX_BUNDLE or count == _MESSAGES):
            yield [_BUNDLE.pack(first, count, len(name)), name, *waiting], count
            first, waiting, size, count = first + count, [], around, 0
        waiting += parts
        size, count = size + length, count + 1
    if count:
        yield [_BUNDLE.pack(first, count, len(name)), name, *waiting], count


def open_bundle(bundle: bytes | memoryview) -> tuple[str, int, list[RawFrame]]:
    """Return who sent a bundle, the number of its first message, and its messages.

    Raises:
        InvalidMessageError: it is not whole, or holds what no frame may.
    """
    producer, first, frames = check_bundle(bundle)
    for frame in frames:
        frame.raw = list(map(bytes, frame.raw))
    return producer, first, frames


def check_bundle(bundle: bytes | memoryview) -> tuple[str, int, list[RawFrame]]:
    """Do as `open_bundle`, without a copy: the chunks are parts of what is given.

    Raises:
        InvalidMessageError: as `open_bundle`.
    """
    with _Whole():
        first, count, length = _BUNDLE.unpack_from(bundle)
        at = _BUNDLE.size + length
        producer = str(bundle[_BUNDLE.size : at], "utf-8")
        frames = []
        for _ in range(count):
            frame, at = _read(bundle, at)
            frames.append(frame)
    if at != len(bundle) or not frames or not 0 < len(producer) <= _NAME or not 1 <= first <= MAX_SEQ - count:
        raise _broken()
    return producer, first, frames


def in_json(bundle: bytes | memoryview) -> bytes:
    """Return the same publish as an envelope, for those who read it over HTTP; it was found whole."""
    producer, first, frames = open_bundle(bundle)
    return encode({"v": 1, "from": producer, "n": first, "b": [_as_text(frame) for frame in frames]})


def _as_text(frame: RawFrame) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(frame)
    raw = fields.pop("raw")  # in base64 by now
    if frame.multipart is not None:
        return fields | {"data": raw[0]}
    if frame.encoding == "base64":
        return fields | {"encoding": "base64", "chunks": raw}
    return fields | {"encoding": "utf8", "chunks": [chunk.decode() for chunk in frame.raw]}


def _parts(frame: RawFrame) -> list[bytes]:
    """Return what a message is made of."""
    stream, sender = frame.stream_id.encode(), frame.sender.encode()
    part = frame.multipart
    kind = _PART if part is not None else _BYTES if frame.encoding == "base64" else _TEXT
    head = _HEAD.pack(kind, frame.seq, frame.ts, len(stream), len(sender), len(frame.raw))
    parts = [head, stream, sender]
    if part is not None:
        name = part.id.encode()
        parts += [_SLICE.pack(part.part, part.total, len(name)), name]
    parts += [_LENGTH.pack(len(chunk)) for chunk in frame.raw]
    return [*parts, *frame.raw]


def _read(bundle: Any, at: int) -> tuple[RawFrame, int]:
    """Return the message that begins at a place, and where the next one does."""
    kind, seq, ts, stream_size, sender_size, count = _HEAD.unpack_from(bundle, at)
    at += _HEAD.size
    stream, at = _name(bundle, at, stream_size)
    sender, at = _name(bundle, at, sender_size)
    multipart = None
    if kind == _PART:
        part, total, size = _SLICE.unpack_from(bundle, at)
        name, at = _name(bundle, at + _SLICE.size, size)
        multipart = Multipart(id=name, part=part, total=total)
    lengths = [length for (length,) in _LENGTH.iter_unpack(_exactly(bundle, at, count * _LENGTH.size))]
    at += count * _LENGTH.size
    ends = list(accumulate(lengths, initial=at))
    raw = [bundle[end - length : end] for length, end in zip(lengths, ends[1:], strict=True)]
    frame = RawFrame(
        type="stream_data" if multipart is None else "stream_events",
        stream_id=stream,
        sender=sender,
        seq=seq,
        ts=ts,
        encoding="base64" if kind == _BYTES else "utf8",
        multipart=multipart,
        raw=raw,
    )
    if ends[-1] > len(bundle) or not _is_sound(frame, kind):
        raise _broken()
    return frame, ends[-1]


def _is_sound(frame: RawFrame, kind: int) -> bool:
    if kind == _TEXT:
        for chunk in frame.raw:
            str(chunk, "utf-8")
    part = frame.multipart
    fits = part is None or (len(frame.raw) == 1 and 1 <= part.part <= part.total <= _PARTS)
    return bool(frame.raw) and fits and kind in {_TEXT, _BYTES, _PART} and frame.seq <= MAX_SEQ and frame.ts <= 2**53


def _name(bundle: Any, at: int, size: int) -> tuple[str, int]:
    name = str(_exactly(bundle, at, size), "utf-8")
    if not 0 < len(name) <= _NAME:
        raise _broken()
    return name, at + size


def _exactly(bundle: Any, at: int, size: int) -> Any:
    found = bundle[at : at + size]
    if len(found) != size:
        raise _broken()
    return found


def _bundle_of(frame: bytes | bytearray, at: int) -> memoryview:
    if not at < len(frame) <= at + MAX_BUNDLE:
        raise _broken()
    return memoryview(frame)[at:]


def _broken() -> InvalidMessageError:
    return InvalidMessageError("bundle", "the bytes of a stream are not whole, or too many for one frame")


class _Whole:
    """Turn what is raised where bytes are missing or are no text into ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, (StructError, UnicodeDecodeError)):
            raise _broken() from error
