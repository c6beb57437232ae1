"""The hub's one entry from HTTP: checks host, origin and size, finds the door, makes every error a Problem."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from starlette.routing import Match, Route

from blocks_worker.hub.api.calls import Answer, Call, StreamedAnswer, refused
from blocks_worker.hub.api.coming import Coming
from blocks_worker.hub.problems import FORBIDDEN, INTERNAL, NOT_FOUND, TOO_LARGE, UNAVAILABLE, RefusalError, as_refusal
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.link import LINK_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence

    from blocks_worker.concurrency import Entropy
    from blocks_worker.hub.api.calls import Door, Endpoint, Scope
    from blocks_worker.hub.traffic import Traffic
    from blocks_worker.hub.watch import Watch

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    LinkServer = Callable[[Scope, Receive, Send, str | None], Awaitable[None]]

_logger = logging.getLogger(__name__)

#: Bytes of all header fields together.
HEADER_LIMIT = 16 * 1024
#: A body over the limit is read on to here and thrown away, so that its sender gets to read the answer.
DRAIN_LIMIT = 8 * MAX_BODY
#: Seconds in which a request's body has to be here, from its head on; of a file, in which its next piece has.
BODY_TIMEOUT = 60.0

_METHOD_NOT_ALLOWED = 405
_TIMEOUT = 408
_HEADERS_TOO_LARGE = 431
_NO_CONTENT = 204
#: A slash that is written so is none for whoever stands before the hub, and so it is none here.
_SLASH = b"%2f"
#: Where the template of a request's route is noted.
_ROUTE = "blocks.route"

#: The refusal of a handshake, which tells nothing more.
_NOT_HERE = {"type": "websocket.close"}
_NO_PARTS: Mapping[str, str] = {}

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class DisconnectedError(Exception):
    """Say that the caller went away before its request was here: nobody waits for an answer."""


class Carried(NamedTuple):
    """Be a call that came over a link: `answer` gives the answer once it has come, and never fails."""

    coming: Coming
    answer: Callable[[], Answer]


class App:
    """Answer HTTP requests by the doors it is given.

    Args:
        doors: all endpoints.
        hosts: names, besides the loopback ones, by which callers may call this hub.
        entropy: draws the id under which a fault is logged and told.
        traffic: counts the answers.
        watch: writes down what was refused.
        patience: seconds for a body.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        *,
        hosts: Iterable[str],
        entropy: Entropy,
        traffic: Traffic,
        watch: Watch,
        links: Callable[[App], LinkServer] | None = None,
        patience: float = BODY_TIMEOUT,
    ) -> None:
        self._patience = patience
        self._traffic = traffic
        self._watch = watch
        self._hot = {(door.method, door.path): door.endpoint for door in doors if door.hot}
        self._routes = [Route(door.path, door.endpoint, methods=[door.method]) for door in doors]
        self._streaming = frozenset(door.endpoint for door in doors if door.streams)
        self._streaming_verbs = frozenset(door.method for door in doors if door.streams)
        self._hosts = LOOPBACK_NAMES | frozenset(hosts)
        self._entropy = entropy
        self._links = None if links is None else links(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        if scope["type"] == "websocket":
            await self._linked(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} is served here")
        answer: Answer | StreamedAnswer
        begun = self._traffic.now()
        try:
            answer = await self._answer(scope, receive)
        except DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - the top of one request: told and logged, the hub lives on
            answer = self._failed(scope, error)
        self._answered(scope, answer, begun)
        await _send(answer, send)

    def carry(self, method: str, path: str, bearer: str | None, body: bytes, client: Any) -> Carried:
        """Begin to answer a call that came over a link, as if it had come by itself; files are not carried so."""
        place, _, query = path.partition("?")
        scope: Scope = {"type": "http", "method": method, "path": place, "query_string": query.encode()}
        scope["headers"] = [] if bearer is None else [(b"authorization", b"Bearer " + bearer.encode())]
        scope["client"] = client
        begun = self._traffic.now()
        try:
            coming = self._taken(scope, body)
            if not isinstance(coming, Coming):
                coming = Coming.of(coming)
        except Exception as error:  # noqa: BLE001 - it is met again where the answer is made
            coming = Coming.failed(error)
        return Carried(coming, partial(self._carried, scope, begun, coming))

    def _taken(self, scope: Scope, body: bytes) -> Awaitable[Answer | StreamedAnswer]:
        """Give a call that came over a link to its door."""
        endpoint = self._hot.get((scope["method"], scope["path"]))
        if endpoint is not None:
            scope[_ROUTE] = scope["path"]
            return endpoint(Call(scope, body, _NO_PARTS))
        scope["path"] = unquote(scope["path"])
        endpoint, parts = self._find(scope)
        if endpoint in self._streaming:
            raise _not_carried()
        return endpoint(Call(scope, body, parts))

    def _carried(self, scope: Scope, begun: float, coming: Coming) -> Answer:
        """Return the answer to a call that came over a link, once what it waited for is there."""
        try:
            answer = coming.answer()
            if not isinstance(answer, Answer) or answer.content_type != Answer.content_type:
                raise _not_carried()  # noqa: TRY301 - it is told as whatever else its door refuses
        except Exception as error:  # noqa: BLE001 - the top of one call: told and logged, the hub lives on
            answer = self._failed(scope, error)
        self._answered(scope, answer, begun)
        return answer

    def _answered(self, scope: Scope, answer: Answer | StreamedAnswer, begun: float) -> None:
        """Count an answer, and write down what was refused."""
        route = scope.get(_ROUTE)
        self._traffic.answered(scope["method"], route, answer.status, begun)
        self._watch.answered(scope, route, answer)

    async def _linked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a link, or refuse its handshake as a request would be."""
        scope["method"] = "GET"
        try:
            self._check_head(scope["headers"])
            await self._link_server(scope)(scope, receive, send, Call(scope, b"", {}).bearer)
        except RefusalError as refusal:
            answer = refused(refusal)
            self._watch.answered(scope, LINK_PATH, answer)
            headers = [(b"content-type", b"application/json")]
            await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": answer.body})

    def _link_server(self, scope: Scope) -> LinkServer:
        if self._links is None or scope["path"] != LINK_PATH:
            raise RefusalError(NOT_FOUND, "NotFound", "there is no such address here")
        return self._links

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | StreamedAnswer:
        endpoint = self._hot.get((scope["method"], scope["path"]))
        if endpoint is not None:
            scope[_ROUTE] = scope["path"]
        if _SLASH in scope.get("raw_path", b"").lower():
            raise RefusalError(NOT_FOUND, "NotFound", "there is no such address here")
        self._check_head(scope["headers"])
        if scope["method"] in self._streaming_verbs:
            endpoint, parts = self._find(scope)
            if endpoint in self._streaming:
                return await _streamed(endpoint, scope, parts, _Body(scope["headers"], receive, self._patience))
        body = await _body(scope["headers"], receive, self._patience)
        if endpoint is not None:
            return await endpoint(Call(scope, body, {}))
        endpoint, parts = self._find(scope)
        return await endpoint(Call(scope, body, parts))

    def _find(self, scope: Scope) -> tuple[Endpoint, Mapping[str, str]]:
        allowed: set[str] = set()
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope[_ROUTE] = route.path
                scope["path_params"] = child["path_params"]
                return child["endpoint"], child["path_params"]
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if allowed:
            verbs = ", ".join(sorted(allowed))
            text = f"this address answers {verbs}"
            raise RefusalError(_METHOD_NOT_ALLOWED, "MethodNotAllowed", text, headers=(("allow", verbs),))
        raise RefusalError(NOT_FOUND, "NotFound", "there is no such address here")

    def _check_head(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Refuse what a page of a foreign site can make a browser send to this machine."""
        if sum(len(name) + len(value) for name, value in headers) > HEADER_LIMIT:
            raise RefusalError(_HEADERS_TOO_LARGE, "InvalidInput", f"the headers are over {HEADER_LIMIT} bytes")
        hosts = [value for name, value in headers if name == b"host"]
        host = _host_of(hosts[0]) if len(hosts) == 1 else None
        if host is None or host not in self._hosts:
            raise RefusalError(FORBIDDEN, "HostForbidden", "this hub does not go by that name")
        for name, value in headers:
            if name == b"origin" and value.partition(b"://")[2] != hosts[0]:
                raise RefusalError(FORBIDDEN, "OriginForbidden", "pages of other sites may not call this hub")

    def _failed(self, scope: Scope, error: Exception) -> Answer:
        refusal = as_refusal(error)
        if refusal is not None:
            return refused(refusal)
        fault = self._entropy.name(8)
        # The template and not the address, in which an upload has its secret.
        fields = {"fault": fault, "method": scope["method"], "route": scope.get(_ROUTE)}
        _logger.error("request_failed", exc_info=error, extra=fields)
        text = f"the hub failed at this request; its log tells more under {fault}"
        return refused(RefusalError(INTERNAL, "Internal", text, details={"fault": fault}))


def _not_carried() -> RefusalError:
    return RefusalError(NOT_FOUND, "NotFound", "this is asked over HTTP only")


def _host_of(value: bytes) -> str | None:
    """Return the name in a Host field, without its port; None when it is no name."""
    try:
        return urlsplit("//" + value.decode("ascii")).hostname
    except ValueError:
        return None


async def _body(headers: Sequence[tuple[bytes, bytes]], receive: Receive, patience: float) -> bytes:
    """Return the whole body, when it is not too large and here in time."""
    if not any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers):
        return b""
    # One end for the whole: a byte now and then would else hold a connection for ever.
    end = asyncio.get_running_loop().time() + patience
    first = await _before(end, receive)
    if first["type"] == "http.request" and not first.get("more_body") and len(first["body"]) <= MAX_BODY:
        return bytes(first["body"])
    return await _long_body(first, receive, end)


async def _long_body(message: Mapping[str, Any], receive: Receive, end: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        size += len(message.get("body", b""))
        if size <= MAX_BODY:
            pieces.append(message.get("body", b""))
        if not message.get("more_body") or size > DRAIN_LIMIT:
            break
        message = await _before(end, receive)
    if size > MAX_BODY:
        text = f"the body is over {MAX_BODY} bytes"
        raise RefusalError(TOO_LARGE, "InvalidInput", text, details={"reason": "too_large"}, headers=_CLOSE)
    return b"".join(pieces)


_CLOSE = (("connection", "close"),)


async def _streamed(endpoint: Endpoint, scope: Scope, parts: Mapping[str, str], body: _Body) -> Answer | StreamedAnswer:
    """Give a request to its door before its body is here; what the door left of it is thrown away."""
    try:
        return await endpoint(Call(scope, b"", parts, body.pieces))
    except RefusalError as refusal:
        with contextlib.suppress(RefusalError):
            await body.drain()
        refusal.headers = (*refusal.headers, *_CLOSE)
        raise


class _Body:
    """Be the body of one request while it comes."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], receive: Receive, patience: float) -> None:
        self._receive = receive
        self._patience = patience
        self._more = any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)

    async def pieces(self, end: float = math.inf) -> AsyncGenerator[bytes, None]:
        """Yield what is not here yet, as it comes, until the end; each piece has its own time too."""
        loop = asyncio.get_running_loop()
        while self._more:
            message = await _before(min(end, loop.time() + self._patience), self._receive)
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            self._more = bool(message.get("more_body"))
            yield message.get("body", b"")

    async def drain(self) -> None:
        """Read on for a while, so that the sender gets to read why he was refused."""
        left = DRAIN_LIMIT
        end = asyncio.get_running_loop().time() + self._patience
        async with aclosing(self.pieces(end)) as pieces:
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    return


async def _before(end: float, receive: Receive) -> Mapping[str, Any]:
    """Wait for the next piece; a timer is far cheaper here than the task that `wait_for` makes of each call."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    timer = loop.call_at(end, task.cancel) if task else None
    try:
        return await receive()
    except asyncio.CancelledError as error:
        if timer is None or loop.time() < timer.when():
            raise
        raise RefusalError(_TIMEOUT, "BodyTimeout", "the body did not come in time", headers=_CLOSE) from error
    finally:
        if timer is not None:
            timer.cancel()


async def _send(answer: Answer | StreamedAnswer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if isinstance(answer, StreamedAnswer):
        await _send_pieces(answer, headers, send)
        return
    if answer.status != _NO_CONTENT:
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_pieces(answer: StreamedAnswer, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    """Send piece by piece; what fails on the way cuts the connection, for the status is out already."""
    async with aclosing(answer.pieces) as pieces:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Entry:
    """Be there from the first connection on: until the hub is ready callers are told to come again.

    Attributes:
        turns_away: tests have everybody told so.
    """

    def __init__(self) -> None:
        self.app: App | None = None
        self.turns_away = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        if self.app is not None and not self.turns_away:
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send(_NOT_HERE)
            return
        text = "the hub is starting: come again"
        await _send(refused(RefusalError(UNAVAILABLE, "Unavailable", text, headers=(("retry-after", "1"),))), send)
