"""Read HTTP/1.1 requests out of bytes, one after the other, within limits; no socket in here."""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from blocks_worker.hub.network.wire import Refused, Reply, Request, sentence, too_large

#: Bytes of an address; a poll of many channels is long.
TARGET_LIMIT = 200 * 1024
#: Bytes of the header block besides the address.
HEADERS_LIMIT = 16 * 1024
#: Bytes of a body, on the wire and inflated.
BODY_LIMIT = 1024 * 1024
#: Pieces of one chunked body: a body in single bytes would keep the loop busy.
CHUNKS_LIMIT = 4096
#: Bytes of a line that announces a chunk.
CHUNK_LINE_LIMIT = 256
_END = b"\r\n\r\n"
_LINE = b"\r\n"
_METHODS = {b"GET": "GET", b"POST": "POST", b"DELETE": "DELETE", b"PATCH": "PATCH", b"OPTIONS": "OPTIONS"}
_KEPT = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"connection", b"expect"))


class Fields(NamedTuple):
    """Be the headers of a request that matter; `length` is None for a chunked body, `host` when there is none."""

    host: str | None
    length: int | None
    encoding: bytes
    connection: bytes
    expects: bool


class Head(NamedTuple):
    """Be the head of one request."""

    method: str
    target: str
    keep_alive: bool
    fields: Fields


class RequestReader:
    """Take bytes as they come and give requests; every refusal ends the connection, as the rest is unreadable."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._head: Head | None = None
        self._fields: Fields | None = None
        self._block = b""
        self._may_go = False
        self._chunks: list[bytes] = []
        self._chunked_size = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came."""
        self._buffer += data

    def has_begun(self) -> bool:
        """Tell whether part of a request waits for its rest, or a whole one to be taken."""
        return bool(self._buffer) or self._head is not None

    def is_in_head(self) -> bool:
        """Tell whether the head of a request waits for its rest."""
        return bool(self._buffer) and self._head is None

    def take_expectation(self) -> bool:
        """Tell, once, that the client waits for our word before it sends the body."""
        waits = self._head is not None and self._head.fields.expects and not self._may_go and not self._buffer
        self._may_go = self._may_go or waits
        return waits

    def next(self) -> Request | None:
        """Return the next whole request, or None until more bytes came.

        Raises:
            Refused: with the reply to send before the connection is closed.
        """
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        fields = self._head.fields
        body = self._read_chunks() if fields.length is None else self._read_length(fields.length)
        if body is None:
            return None
        head, self._head, self._may_go = self._head, None, False
        path, _, query = head.target.partition("?")
        if fields.encoding:
            body = inflated(body, fields.encoding)
        return Request(head.method, path, query, fields.host or "", body, head.keep_alive)

    def _read_head(self) -> Head | None:
        end = self._buffer.find(_END, max(0, self._searched - len(_END)))
        if end < 0:
            self._searched = len(self._buffer)
            self._check_size(self._searched)
            return None
        self._searched = 0
        line, _, block = bytes(self._buffer[:end]).partition(_LINE)
        del self._buffer[: end + len(_END)]
        method, target, version = first_line(line)
        fields = self._fields_of(block)
        if fields.host is None and version == b"HTTP/1.1":
            raise Refused(bad_request("Host is missing"))
        keep_alive = version == b"HTTP/1.1" or b"keep-alive" in fields.connection
        return Head(method, target, keep_alive and b"close" not in fields.connection, fields)

    def _fields_of(self, block: bytes) -> Fields:
        """Parse the headers, unless they are those of the request before: a client hardly changes them."""
        if self._fields is None or block != self._block:
            self._fields = parsed_fields(block)
            self._block = block
        return self._fields

    def _check_size(self, size: int) -> None:
        if size <= HEADERS_LIMIT:
            return
        line = self._buffer.find(_LINE)
        if line < 0 and size > TARGET_LIMIT:
            raise Refused(uri_too_long())
        if line >= 0 and size - line > HEADERS_LIMIT:
            raise Refused(sentence(431, "Request Header Fields Too Large", service="Balancer"))

    def _read_length(self, length: int) -> bytes | None:
        if length == 0:
            return b""
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        while True:
            line = self._buffer.find(_LINE, 0, CHUNK_LINE_LIMIT)
            if line < 0:
                if len(self._buffer) >= CHUNK_LINE_LIMIT:
                    raise Refused(bad_request("A chunk has no size"))
                return None
            size = chunk_size(bytes(self._buffer[:line]))
            if self._chunked_size + size > BODY_LIMIT or len(self._chunks) >= CHUNKS_LIMIT:
                raise Refused(too_large())
            if size == 0:
                return self._end_chunks(line)
            start, end = line + 2, line + 2 + size
            if len(self._buffer) < end + 2:
                return None
            if self._buffer[end : end + 2] != _LINE:
                raise Refused(bad_request("A chunk is longer than it says"))
            self._chunks.append(bytes(self._buffer[start:end]))
            self._chunked_size += size
            del self._buffer[: end + 2]

    def _end_chunks(self, line: int) -> bytes | None:
        """Take the closing line; trailers are refused, nobody sends them and they need a bound."""
        if len(self._buffer) < line + 4:
            return None
        if self._buffer[line + 2 : line + 4] != _LINE:
            raise Refused(bad_request("Trailers are not accepted"))
        del self._buffer[: line + 4]
        body = b"".join(self._chunks)
        self._chunks, self._chunked_size = [], 0
        return body


#: A header as it may be: whoever stands before us must not see two where we see one.
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0\r\n]*\Z")


def parsed_fields(block: bytes) -> Fields:
    """Return the headers that matter, out of the block below the first line."""
    if len(block) > HEADERS_LIMIT:
        raise Refused(sentence(431, "Request Header Fields Too Large", service="Balancer"))
    headers = kept_headers(block.split(_LINE) if block else [])
    host = headers.get(b"host")
    return Fields(
        None if host is None else host.decode("latin-1").lower(),
        body_length(headers),
        headers.get(b"content-encoding", b"").lower(),
        headers.get(b"connection", b"").lower(),
        headers.get(b"expect", b"").lower() == b"100-continue",
    )


def first_line(line: bytes) -> tuple[str, str, bytes]:
    """Return method, address and version."""
    verb, _, rest = line.partition(b" ")
    raw, _, version = rest.rpartition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not raw:
        raise Refused(bad_request("This is not HTTP/1.1"))
    if len(raw) > TARGET_LIMIT:
        raise Refused(uri_too_long())
    method = _METHODS.get(verb)
    if method is None:
        raise Refused(sentence(405, "Method Not Allowed", service="Balancer"))
    target = raw.decode("latin-1")
    if not (target.isascii() and target.isprintable()) or " " in target or (raw[0] != ord("/") and method != "OPTIONS"):
        raise Refused(bad_request("The address is malformed"))
    return method, target, version


def kept_headers(fields: list[bytes]) -> dict[bytes, bytes]:
    """Return the headers that matter here; the same one twice is a trick and refused."""
    found: dict[bytes, bytes] = {}
    for field in fields:
        if _FIELD.match(field) is None:
            raise Refused(bad_request("A header is malformed"))
        name, _, value = field.partition(b":")
        key = name.lower()
        if key in _KEPT:
            if key in found:
                raise Refused(bad_request("A header came twice"))
            found[key] = value.strip()
    return found


def body_length(headers: dict[bytes, bytes]) -> int | None:
    """Return the announced length of the body, None when it comes in chunks."""
    length = headers.get(b"content-length")
    transfer = headers.get(b"transfer-encoding")
    if transfer is not None:
        if length is not None or transfer.lower() != b"chunked":
            raise Refused(bad_request("The body has no clear length"))
        return None
    if length is None:
        return 0
    if not length.isdigit():
        raise Refused(bad_request("Content-Length is malformed"))
    if len(length) > 10 or int(length) > BODY_LIMIT:  # noqa: PLR2004 - ten digits are far above the limit
        raise Refused(too_large())
    return int(length)


def chunk_size(line: bytes) -> int:
    """Return the size that a chunk's line announces; extensions are ignored."""
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 8 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):  # noqa: PLR2004
        raise Refused(bad_request("A chunk's size is malformed"))
    return int(digits, 16)


def inflated(body: bytes, encoding: bytes) -> bytes:
    """Return the inflated body. Some clients label zlib data as gzip, so the data's own header decides."""
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise Refused(sentence(415, "The content encoding is not known", service="Balancer"))
    inflater = zlib.decompressobj(47)  # 32 + 15: zlib or gzip, whichever header is there
    try:
        whole = inflater.decompress(body, BODY_LIMIT)
    except zlib.error:
        raise Refused(bad_request("The body is not compressed as it says")) from None
    if inflater.unconsumed_tail:
        raise Refused(too_large())
    if not inflater.eof:
        raise Refused(bad_request("The compressed body is cut off"))
    return whole


def bad_request(message: str) -> Reply:
    """Return the balancer's answer to what is not well-formed HTTP."""
    return sentence(400, message, service="Balancer")


def uri_too_long() -> Reply:
    """Return the balancer's answer to an address above the limit."""
    return sentence(414, "Request URI Too Long", service="Balancer")
