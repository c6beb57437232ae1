"""A request handler of the SDK on plain HTTP connections, for a cleartext origin on this machine.

It costs a quarter of what the SDK's own costs, never asks a proxy, tells which failures happened before anything
was sent, and its requests can be interrupted from another thread. Anything beyond this machine keeps the SDK's own:
TLS, proxies and HTTP/2 are solved there.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from typing import Any

from pubnub.enums import PNStatusCategory
from pubnub.errors import (
    PNERR_CLIENT_ERROR,
    PNERR_CLIENT_TIMEOUT,
    PNERR_CONNECTION_ERROR,
    PNERR_SERVER_ERROR,
    PNERR_TOO_MANY_REDIRECTS_ERROR,
    PNERR_UNKNOWN_ERROR,
)
from pubnub.exceptions import PubNubException
from pubnub.request_handlers.base import BaseRequestHandler
from pubnub.structures import Envelope

#: Idle connections kept for the next request; more threads than this publish at once rarely.
IDLE = 4
#: Bytes of a reply that are read: a page of 100 messages of 32 KiB and their frames.
REPLY_BYTES = 8 * 1024 * 1024
#: What an address may hold besides letters and digits without being encoded once more.
_SAFE = "/?&=%,:;@!$'()*+~-._[]"
#: Ends both directions of a connection and so wakes the thread that reads it; closing alone does not.
_BOTH_WAYS = 2
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class LoopbackHandler(BaseRequestHandler):  # type: ignore[misc]  # the SDK carries no types
    """Send the SDK's requests over kept connections; safe to use from several threads."""

    def __init__(self, pubnub: Any) -> None:
        super().__init__()
        self._pubnub = pubnub
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def sync_request(self, platform_options: Any, endpoint_call_options: Any) -> Any:
        """Carry out one request and return the SDK's envelope of its reply."""
        options = endpoint_call_options
        try:
            status, body = self._exchange(platform_options, options)
        except PubNubException as error:
            return _failure(options, error)
        if status not in (200, 204, 307):
            return _failure(options, _refusal(status, body))
        value = json.loads(body.decode("utf-8"))
        said = options.create_status(
            category=PNStatusCategory.PNAcknowledgmentCategory,
            response=value,
            response_info=None,
            exception=None,
        )
        return Envelope(result=options.create_response(value), status=said)

    def threaded_request(self, *_: Any, **__: Any) -> Any:
        """Refuse: every call of ours is made on the caller's thread."""
        raise NotImplementedError

    async def async_request(self, *_: Any, **__: Any) -> Any:
        """Refuse: every call of ours is made on the caller's thread."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection, interrupting the requests on them, for good."""
        with self._lock:
            self._closed = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for connection in idle:
            connection.close()
        for connection in busy:
            _interrupt(connection)

    def _exchange(self, platform: Any, options: Any) -> tuple[int, bytes]:
        """Send the request and return status and body, on a kept connection or else a new one."""
        connection, kept = self._take(options)
        try:
            reply = self._try(connection, platform, options)
        except _STALE as error:
            # The other side may have ended a kept connection while it lay idle. The request is repeated:
            # reads change nothing, and a publish carries its name.
            if not kept or self._closed:
                raise _broken(error) from error
            connection, _ = self._take(options, fresh=True)
            try:
                reply = self._try(connection, platform, options)
            except (OSError, http.client.HTTPException) as again:
                raise _broken(again) from again
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error) from error
        return reply

    def _try(self, connection: http.client.HTTPConnection, platform: Any, options: Any) -> tuple[int, bytes]:
        """Make one exchange; the connection is kept when it went well and closed when it did not."""
        good = False
        try:
            answer = _send(connection, platform, options)
            body = answer.read(REPLY_BYTES + 1)
            if answer.length:  # reading up to a bound does not complain of an early end
                raise http.client.IncompleteRead(body, answer.length)
            if len(body) > REPLY_BYTES:
                raise http.client.HTTPException("the reply is too long")
            good = not answer.will_close
            return answer.status, body
        finally:
            self._give_back(connection, good=good)

    def _take(self, options: Any, *, fresh: bool = False) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        with self._lock:
            if self._closed:
                raise PubNubException(pn_error=PNERR_UNKNOWN_ERROR, errormsg="the client was closed")
            kept = bool(self._idle) and not fresh
            connection = self._idle.pop() if kept else self._new(options)
            self._busy.add(connection)
        if not kept:
            self._connect(connection)
        return connection, kept

    def _new(self, options: Any) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(f"//{self._pubnub.base_origin}")
        return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=options.connect_timeout)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as error:
            self._give_back(connection, good=False)
            kind = PNERR_CLIENT_TIMEOUT if isinstance(error, TimeoutError) else PNERR_CONNECTION_ERROR
            raise PubNubException(pn_error=kind, errormsg=str(error)) from error
        if self._closed:  # closed while it was dialled: nobody else will interrupt it any more
            self._give_back(connection, good=False)
            raise PubNubException(pn_error=PNERR_UNKNOWN_ERROR, errormsg="the client was closed")

    def _give_back(self, connection: http.client.HTTPConnection, *, good: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            keep = good and not self._closed and len(self._idle) < IDLE
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()


def _send(connection: http.client.HTTPConnection, platform: Any, options: Any) -> http.client.HTTPResponse:
    """Send one request and return its reply, the body still unread."""
    connection.sock.settimeout(options.request_timeout)
    target = urllib.parse.quote(f"{options.path}?{options.query_string}", safe=_SAFE)
    body = options.data.encode("utf-8") if isinstance(options.data, str) else options.data
    connection.request(
        options.method_string, target, body=body, headers={**platform.headers, **(options.request_headers or {})}
    )
    return connection.getresponse()


def _interrupt(connection: http.client.HTTPConnection) -> None:
    """End a connection on which another thread waits; that thread closes it."""
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(_BOTH_WAYS)
        except OSError:
            return  # ended already


def _broken(error: Exception) -> PubNubException:
    kind = PNERR_CLIENT_TIMEOUT if isinstance(error, TimeoutError) else PNERR_UNKNOWN_ERROR
    return PubNubException(pn_error=kind, errormsg=f"{type(error).__name__}: {error}"[:200])


def _refusal(status: int, body: bytes) -> PubNubException:
    """Return the exception of a reply that is none of success; its text is the body, for what a refusal names."""
    if 300 <= status < 400:  # noqa: PLR2004 - redirects are never followed: our origin is the origin
        return PubNubException(pn_error=PNERR_TOO_MANY_REDIRECTS_ERROR, errormsg=f"status {status}")
    kind = PNERR_SERVER_ERROR if status >= 500 else PNERR_CLIENT_ERROR  # noqa: PLR2004 - HTTP
    text = body[:65536].decode("utf-8", "replace") or "no text"
    return PubNubException(pn_error=kind, errormsg=text, status_code=status)


def _failure(options: Any, error: PubNubException) -> Any:
    categories = {400: PNStatusCategory.PNBadRequestCategory, 403: PNStatusCategory.PNAccessDeniedCategory}
    category = categories.get(error.get_status_code(), PNStatusCategory.PNUnknownCategory)
    said = options.create_status(category=category, response=None, response_info=None, exception=error)
    return Envelope(result=None, status=said)
