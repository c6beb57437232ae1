"""Several logical messages in one publish: how an envelope is made, measured, cut and opened.

An envelope is ``{"v": 1, "from": producer, "n": number of the first, "b": [message, ...]}``; message *i* is named
by ``(producer, n + i)``, whatever the network does with the publish that carries it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError
from blocks_worker.protocol.codec import check_depth, decode_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = 1
#: Bytes of one encoded envelope. The network takes 32 KiB; the rest is room for its own framing.
ENVELOPE_BYTES = 24 * 1024
#: Messages of one envelope.
ENVELOPE_MESSAGES = 100
#: How deep a message may nest: far above any honest one, far below what exhausts a parser.
DEPTH = 64
#: Characters of the name of a producer.
PRODUCER = 128
#: A number on a channel must stay exact in every JSON reader.
MAX_NUMBER = 2**53 - 1


@dataclass(frozen=True)
class Envelope:
    """One publish: the payload, and how many messages it carries."""

    payload: dict[str, Any]
    count: int


@dataclass(frozen=True)
class Opened:
    """What a received envelope holds: its bodies with their numbers, and about how many bytes they are."""

    producer: str
    first: int
    bodies: Sequence[dict[str, Any]]
    size: int


class _Envelope(msgspec.Struct, gc=False):
    """What an envelope is that came as bytes: all that `_opened` looks for, checked as it is read."""

    version: Literal[1] = msgspec.field(name="v")
    producer: Annotated[str, msgspec.Meta(min_length=1, max_length=PRODUCER)] = msgspec.field(name="from")
    first: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)] = msgspec.field(name="n")
    bodies: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=ENVELOPE_MESSAGES)] = msgspec.field(
        name="b"
    )


def pack(messages: Sequence[dict[str, Any]], producer: str, first: int) -> list[Envelope]:
    """Return the messages in as few envelopes as the limits allow, numbered from `first`.

    Raises:
        InvalidMessageError: one of them is not strict JSON.
        MessageTooLargeError: one of them fills more than an envelope by itself.
    """
    sizes = [encoded_size(message) for message in messages]
    packed = []
    for start, end in _cuts(sizes, _frame(producer)):
        body = {"v": VERSION, "from": producer, "n": first + start, "b": list(messages[start:end])}
        packed.append(Envelope(body, end - start))
    return packed


def encoded_size(message: dict[str, Any]) -> int:
    """Return the bytes of a message as the network's client encodes it: ASCII, with blanks after separators."""
    if not isinstance(message, dict):
        raise InvalidMessageError("not_an_object", "a message must be a JSON object")
    check(message)
    try:
        return len(json.dumps(message, allow_nan=False))
    except ValueError as error:  # an int of more digits than the interpreter turns into text
        raise InvalidMessageError("number", "a number of the message is too long for JSON") from error


def check(value: object) -> int:
    """Check that a value is strict JSON and not too deep; return about how many bytes it is.

    Raises:
        InvalidMessageError: a float that is no number, a lone surrogate, a key that is no text, a foreign type.
    """
    size = 0
    pending: list[tuple[object, int]] = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > DEPTH:
            raise InvalidMessageError("depth", f"a message nests deeper than {DEPTH}")
        if isinstance(item, dict):
            for key, inner in item.items():
                size += _scalar(_key(key))
                pending.append((inner, depth + 1))
        elif isinstance(item, list):
            pending.extend((inner, depth + 1) for inner in item)
            size += 2 + len(item)
        else:
            size += _scalar(item)
    return size


def read_envelope(data: bytes) -> Opened:
    """Return what an envelope holds that came as bytes.

    Raises:
        InvalidMessageError: it is not one of ours, or not strict JSON; `reason` is counted.
    """
    check_depth(data, DEPTH)
    try:
        read = decode_trusted(_Envelope, data)
    except InvalidMessageError:
        # What is wrong with it is told by the one who looks at it step by step.
        return _opened(decode_trusted(dict, data), len(data))
    return Opened(read.producer, read.first, read.bodies, len(data))


def open_envelope(payload: object) -> Opened:
    """Return what an envelope holds that others have decoded, who take more than strict JSON.

    Raises:
        InvalidMessageError: it is not one of ours; `reason` is counted.
    """
    if not isinstance(payload, dict):
        raise InvalidMessageError("not_an_envelope", "the payload is no envelope")
    _check_version(payload)
    return _opened(payload, check(payload))


def _check_version(payload: dict[str, Any]) -> None:
    if payload.get("v") != VERSION or isinstance(payload.get("v"), bool):
        raise InvalidMessageError("version", "the envelope has an unknown version")


def _opened(payload: dict[str, Any], size: int) -> Opened:
    _check_version(payload)
    producer, first, bodies = payload.get("from"), payload.get("n"), payload.get("b")
    if not isinstance(producer, str) or not 0 < len(producer) <= PRODUCER:
        raise InvalidMessageError("producer", "the envelope names no producer")
    if not isinstance(first, int) or isinstance(first, bool) or not 1 <= first <= MAX_NUMBER:
        raise InvalidMessageError("number", "the envelope has no number")
    if not isinstance(bodies, list) or not 1 <= len(bodies) <= ENVELOPE_MESSAGES:
        raise InvalidMessageError("bodies", "the envelope has no list of messages")
    if not all(isinstance(body, dict) for body in bodies):
        raise InvalidMessageError("bodies", "a message of the envelope is no object")
    return Opened(producer, first, tuple(bodies), size)


def _cuts(sizes: Sequence[int], frame: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of messages that share an envelope."""
    for size in sizes:
        if frame + size > ENVELOPE_BYTES:
            raise MessageTooLargeError(frame + size, ENVELOPE_BYTES)
    start, total = 0, frame
    for index, size in enumerate(sizes):
        if index > start and (total + size + 2 > ENVELOPE_BYTES or index - start == ENVELOPE_MESSAGES):
            yield start, index
            start, total = index, frame
        total += size + 2
    if start < len(sizes):
        yield start, len(sizes)


def _frame(producer: str) -> int:
    """Return the bytes of an envelope around its messages, with room for the longest number."""
    return len(json.dumps({"v": VERSION, "from": producer, "n": MAX_NUMBER, "b": []}))


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidMessageError("key", f"a key of a message must be text, not {type(key).__name__}")
    return key


def _scalar(item: object) -> int:
    """Check a value that holds no others; return about how many bytes it is."""
    if isinstance(item, str):
        if not item.isascii():
            _check_text(item)
        return len(item) + 4
    if item is None or isinstance(item, (bool, int)):
        return 8
    if isinstance(item, float):
        if not math.isfinite(item):
            raise InvalidMessageError("number", "a number of a message is not finite")
        return 16
    raise InvalidMessageError("type", f"a message may not hold a {type(item).__name__}")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidMessageError("text", "a text of a message holds half a character") from error
