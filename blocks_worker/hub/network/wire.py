"""Requests and replies as values: addresses are split before they are decoded, each error has its shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

JAVASCRIPT = b'text/javascript; charset="UTF-8"'
#: Names in one list: each costs the loop time, for its presence too.
NAMES_LIMIT = 2000
#: Characters of an encoded text that is worth remembering.
REMEMBERED_LENGTH = 2048
ACCESS_MANAGER = "Access Manager"

_REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


@dataclass(slots=True)
class Request:
    """Be one request as it came: `path` and `query` are still percent-encoded, `body` is inflated."""

    method: str
    path: str
    query: str
    host: str
    body: bytes
    keep_alive: bool


@dataclass(slots=True)
class Reply:
    """Be one answer; `extra` is further header lines, each with its line end."""

    status: int
    body: bytes
    extra: bytes = b""


class Refused(Exception):  # noqa: N818 - an answer on its way out, not a failure of ours
    """Carry the reply to a request that is refused up to whoever writes it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def dumps(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def ok(value: Any) -> Reply:
    """Return a good answer."""
    return Reply(200, dumps(value))


def decoded(text: str) -> str:
    """Undo percent-encoding; what is not UTF-8 then is refused."""
    if "%" not in text:
        return text
    try:
        return _remembered(text) if len(text) <= REMEMBERED_LENGTH else unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Refused(sentence(400, "The address is not UTF-8")) from None


@lru_cache(maxsize=1024)
def _remembered(text: str) -> str:
    """Decode what comes again with every request of a client: its token, its channels, its kind."""
    return unquote(text, errors="strict")


def names(segment: str) -> list[str]:
    """Return the names of a comma list, each once, in order; a comma inside a name came encoded."""
    listed = [decoded(name) for name in dict.fromkeys(segment.split(",")) if name]
    if len(listed) > NAMES_LIMIT:
        raise Refused(sentence(400, f"More than {NAMES_LIMIT} names in one request"))
    return listed


def query_of(text: str) -> dict[str, str]:
    """Return the parameters of a query; empty values are kept, and of two equal names the last."""
    found = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        found[name] = decoded(value) if "%" in value else value
    return found


def whole(text: str | None, default: int | None = None) -> int | None:
    """Return a whole number that is not negative; None or empty gives the default, else it raises ValueError."""
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):  # noqa: PLR2004 - any timetoken has fewer digits
        raise ValueError(text)
    return int(text)


def sentence(status: int, message: str, *, service: str | None = ACCESS_MANAGER, payload: Any = None) -> Reply:
    """Return an error of the balancer, of presence or of access: the plain shape."""
    body: dict[str, Any] = {"message": message}
    if payload is not None:
        body["payload"] = payload
    body["error"] = True
    if service is not None:
        body["service"] = service
    body["status"] = status
    return Reply(status, dumps(body) + b"\n")


def not_sent(message: str, timetoken: int) -> Reply:
    """Return the error of publish and signal."""
    return Reply(400, dumps([0, message, str(timetoken)]))


def no_history(status: int, message: str) -> Reply:
    """Return the error of history."""
    return Reply(status, dumps({"status": status, "error": True, "error_message": message, "channels": {}}))


def too_large() -> Reply:
    """Return the balancer's answer to a body above the limit."""
    return sentence(413, "Request Entity Too Large.", service="Balancer")


def rendered(reply: Reply, *, keep_alive: bool) -> bytes:
    """Return the bytes of a reply. All carry a type and the word that browsers may read them."""
    head = _HEADS.get(reply.status)
    if head is None:
        head = _HEADS[reply.status] = _head(reply.status)
    length = b"" if reply.status == 204 else b"Content-Length: %d\r\n" % len(reply.body)  # noqa: PLR2004
    close = b"" if keep_alive else b"Connection: close\r\n"
    return b"".join((head, length, reply.extra, close, b"\r\n", reply.body))


def _head(status: int) -> bytes:
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nCache-Control: no-cache\r\n"
        b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n"
    ) % (status, _REASONS.get(status, b"Unknown"), JAVASCRIPT)


#: The heads of the statuses met so far; their number is bounded by the statuses we send.
_HEADS: dict[int, bytes] = {}
