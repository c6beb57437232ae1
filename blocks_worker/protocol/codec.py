"""Bytes to messages and back: everything that comes in is hostile until it passed here."""

from __future__ import annotations

import json
import math
import re
import threading
from bisect import bisect_right
from collections import Counter
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError

#: Deepest nesting of lists and objects in anything that travels.
MAX_DEPTH = 64
#: Largest body of one request, in bytes.
MAX_BODY = 1024 * 1024
#: Most digits of a whole number: a larger one costs more to read than it is worth.
MAX_DIGITS = 400

T = TypeVar("T")

#: One that is never closed goes to the end: to look for its end behind each quote costs the square of the body.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_PLAIN_STRINGS = re.compile(rb'"[^"]*(?:"|\Z)')
_NO_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_NEITHER = bytes(each for each in range(256) if each not in b'[]{}"')
#: Levels that nearly nothing exceeds.
_SHALLOW = 8
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
#: What every number has that no float can hold; others, and texts, may look so too.
_PERHAPS_INFINITE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{200}")


class Wire(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Be the base of what travels: camelCase names, unknown fields ignored, defaults left out."""


#: msgspec looks at a type at its first use, and keeps what it has found before it has found all: a second thread that
#: comes just then crashes the process.
_looking = threading.Lock()


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    with _looking:
        return msgspec.json.Decoder(kind)


_encoder = msgspec.json.Encoder()


def encode(message: Any) -> bytes:
    """Return the message as JSON bytes.

    Raises:
        InvalidMessageError: it holds what JSON cannot carry.
    """
    try:
        return _encoder.encode(message)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError, OverflowError) as error:
        raise InvalidMessageError("not_json", f"cannot be written as JSON: {error}") from error


def decode(kind: type[T], data: bytes, *, limit: int = MAX_BODY) -> T:
    """Return the message of type `kind` that the bytes hold, after every check of `inspect`."""
    inspect(data, limit=limit)
    return decode_trusted(kind, data)


def decode_trusted(kind: type[T], data: bytes) -> T:
    """Return the message that bytes hold which were inspected before or written by ourselves."""
    try:
        return _decoder(kind).decode(data)  # type: ignore[no-any-return, arg-type]  # every type we hand over is hashable
    except msgspec.ValidationError as error:
        raise InvalidMessageError("shape", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidMessageError("not_json", f"is not JSON: {error}") from error


def convert(kind: type[T], value: Any) -> T:
    """Return the message of type `kind` that decoded JSON holds."""
    _decoder(kind)  # type: ignore[arg-type]  # for its look at the type; every one is hashable
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:
        # Half a character stops msgspec at a key, and at a text where a number belongs.
        raise InvalidMessageError("shape", str(error)) from error


def check_size(data: bytes, limit: int = MAX_BODY) -> None:
    """Refuse bytes that are too long, with `reason` ``too_large``."""
    if len(data) > limit:
        raise MessageTooLargeError(len(data), limit)


def inspect(data: bytes, *, limit: int = MAX_BODY, depth: int = MAX_DEPTH) -> None:
    """Refuse bytes that are too long, not UTF-8, too deep, or hold a key twice, NaN, or a number that is too large.

    Raises:
        InvalidMessageError: with `reason` ``too_large``, ``not_utf8``, ``too_deep``, ``number``,
            ``duplicate_key`` or ``not_json``.
    """
    check_size(data, limit)
    if not data.isascii():
        _check_utf8(data)
    check_depth(data, depth)
    if _LONG_NUMBER.search(data) and _LONG_NUMBER.search(_STRINGS.sub(b"", data)):
        raise InvalidMessageError("number", f"holds a number of more than {MAX_DIGITS} digits")
    _check_keys(data)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidMessageError("not_utf8", f"is not UTF-8: {error.reason} at byte {error.start}") from error


def check_depth(data: bytes, most: int) -> None:
    """Refuse JSON that is nested deeper than `most` levels, with `reason` ``too_deep``."""
    if data.count(b"[") + data.count(b"{") <= most:
        return
    # What is shallow, as nearly all is, is gone when its innermost pairs were taken away a few times; a time takes two
    # levels at most.
    brackets = left = _brackets(data)
    for _ in range(min(most, _SHALLOW) // 2):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if not left:
        return
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > most:
            raise InvalidMessageError("too_deep", f"is nested deeper than {most} levels")


def _brackets(data: bytes) -> bytes:
    """Return the brackets of JSON that are not in its texts."""
    if b"\\" in data:
        return _STRINGS.sub(b"", data).translate(None, _NO_BRACKETS)
    # No quote is escaped: it is enough to look at quotes and brackets.
    return _PLAIN_STRINGS.sub(b"", data.translate(None, _NEITHER))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InvalidMessageError("duplicate_key", f"holds the key {twice[:80]!r} twice")
    return found


def _no_constant(name: str) -> Any:
    raise InvalidMessageError("number", f"holds {name}, which JSON does not know")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidMessageError("number", f"holds the number {text[:40]}, which is too large")
    return number


_plain = msgspec.json.Decoder()
_strict = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
#: Slower, as each float is one call.
_stricter = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _check_keys(data: bytes) -> None:
    try:
        # Nearly all that comes was written as we write it: then it holds no key twice, and no number is too large.
        if _encoder.encode(_plain.decode(data)) == data:
            return
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        (_stricter if _PERHAPS_INFINITE.search(data) else _strict).decode(data.decode("utf-8"))
    except InvalidMessageError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError("not_json", f"is not JSON: {error}") from error


def fitting(text: str, limit: int) -> str:
    """Return the text without what JSON cannot carry, cut to `limit` bytes as JSON, its quotes aside."""
    # No character takes less than a byte: the rest of a huge text is not even looked at.
    clean = (
        text[: limit + 1].encode("utf-8", errors="replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
    if len(encode(clean)) <= limit + len('""'):
        return clean
    most = limit + len('""') - len("…".encode())
    return clean[: bisect_right(range(len(clean)), most, key=lambda end: len(encode(clean[:end]))) - 1] + "…"


def splice(head: dict[str, Any], body: bytes) -> bytes:
    """Return one JSON object: the fields of `head`, then those of the object that `body` holds as bytes.

    The body is not read again. It must be an object without any key of the head.
    """
    front = encode(head)
    rest = body.strip()
    if rest == b"{}":
        return front
    return front[:-1] + b"," + rest[1:]
