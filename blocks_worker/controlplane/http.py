"""One HTTP connection pool to one server: the only importer of the HTTP library, whose errors become ours here."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from blocks_worker.controlplane.answer import UNAUTHORIZED, HttpAnswer
from blocks_worker.controlplane.exactly import Exactly
from blocks_worker.controlplane.gate import Gate, Turn
from blocks_worker.errors import ConfigurationError, ForkedProcessError, HubUnavailableError
from blocks_worker.observability.redact import without_password
from blocks_worker.processes import keep_from_children
from blocks_worker.protocol.files import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from blocks_worker.controlplane.carrier import Carrier

#: Connections kept for the flows of one process: claims, reports, submits, heartbeats, polls, logins.
CONNECTIONS = 8
#: Seconds to reach a server that does not answer at all.
CONNECT_TIMEOUT = 5.0
#: Largest answer that is read, in bytes.
MAX_ANSWER = 64 * 1024 * 1024

#: The server hung up before the first byte of its answer.
_HUNG_UP = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class HttpStream:
    """What a server answers, its body by pieces of at most 64 KiB."""

    def __init__(self, response: urllib3.BaseHTTPResponse, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._errors = errors

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises:
            HubUnavailableError: it ended before its length, or nothing came for too long.
        """
        with self._errors():
            yield from self._response.stream(PIECE, decode_content=False)

    def whole(self) -> HttpAnswer:
        """Return the answer with its whole body."""
        with self._errors():
            return HttpAnswer(self.status, _whole(self._response), self.headers)


@dataclass(frozen=True)
class _Server:
    """Be one server: its address, the path before every path, and the connections to it."""

    base_url: str
    prefix: str
    pool: urllib3.HTTPConnectionPool

    @classmethod
    def at(cls, base_url: str) -> _Server:
        """Return the server at an address; nothing is sent yet."""
        try:
            parts, port = urlsplit(base_url), urlsplit(base_url).port
        except ValueError:  # half an IPv6 address, or a port beyond all ports
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
            said = without_password(base_url)
            raise ConfigurationError(f"{said!r} is not the address of a hub; give one like http://127.0.0.1:3001")
        pool = _pool(parts.scheme, parts.hostname, port)
        return cls(base_url.rstrip("/"), parts.path.rstrip("/"), pool)


class Http:
    """Send requests to one server over kept-alive connections.

    No proxy of the environment is used, no redirect followed, certificates are checked. A request of ours
    may be repeated, because what it asks for is named by ids; so a connection that dies before the
    answer began is replaced once, unless the caller says that this one must be sent once only. With a `gate`
    a server that fails is asked less.

    `on_doubt` is called when nothing answered, or perhaps somebody else: it must return at once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        on_doubt: Callable[[], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._server = _Server.at(base_url)
        self._timeout = timeout
        self._headers = {"User-Agent": "blocks-worker", "Accept": "application/json", **(headers or {})}
        self._on_doubt = on_doubt
        self._closed = threading.Event()
        self._carrier: Carrier | None = None
        self._is_left = False
        keep_from_children(self)

    def leave_to_parent(self) -> tuple[()]:
        """Be closed in a child that was just forked: two who speak on one connection hear each other's answers."""
        # The parent's are not touched, not even closed: a thread that is not here may hold the lock of pool or gate.
        self._left, self._server = self._server, _Server.at(self.base_url)
        self._carrier, self._gate, self._is_left = None, None, True
        self.close()
        return ()

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._server.base_url

    def carry_by(self, carrier: Carrier) -> None:
        """Have calls with a token carried by something faster, as long as it is there."""
        self._carrier = carrier

    def move(self, base_url: str) -> None:
        """Send what comes from now on to another address; what is under way stays where it is."""
        if base_url.rstrip("/") == self.base_url or self._closed.is_set():
            return
        left, self._server = self._server, _Server.at(base_url)
        left.pool.close()
        if self._closed.is_set():
            self._server.pool.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        bearer: str | None = None,
        timeout: float | None = None,
        once: bool = False,
        vital: bool = False,
    ) -> HttpAnswer:
        """Return what the server answers to one request.

        `once`: it is never sent twice. `vital`: it is sent to a server that fails, too.

        Raises:
            HubUnavailableError: no answer came; its `sent` tells whether the request may have been carried out.
        """
        with self._turn(method, path, timeout, vital=vital) as turn:
            answer = None if once or bearer is None else self._carried(method, path, body, bearer, turn.timeout)
            if answer is None:
                answer = self._sent_alone(method, path, body, bearer, turn.timeout, once=once)
            turn.answered(answer.status)
        return answer

    def _sent_alone(
        self, method: str, path: str, body: bytes | None, bearer: str | None, timeout: float, *, once: bool
    ) -> HttpAnswer:
        headers = self._head(bearer, None if body is None else "application/json")
        with self._errors(), self._response(method, path, lambda: body, headers, timeout, once=once) as response:
            answer = HttpAnswer(response.status, _whole(response), response.headers)
        if answer.is_strange:
            self._doubt()
        return answer

    def _carried(self, method: str, path: str, body: bytes | None, bearer: str, limit: float) -> HttpAnswer | None:
        if self._carrier is None:
            return None
        try:
            answer = self._carrier(method, path, body, bearer, limit)
        except TimeoutError as error:
            self._doubt()
            raise HubUnavailableError(self.base_url, "no answer in time", sent=True, hangs=True) from error
        if answer is None:
            return None
        if answer.status == UNAUTHORIZED:
            self._doubt()
        headers = {} if answer.retry_after is None else {"retry-after": answer.retry_after}
        return HttpAnswer(answer.status, answer.body, headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """Return what a server that is no hub answers to a POST with these headers and none of ours.

        Raises:
            HubUnavailableError: no answer came.
        """
        with self._errors(), self._response("POST", path, lambda: body, headers, self._timeout) as response:
            return HttpAnswer(response.status, _whole(response), response.headers)

    def stream_up(self, path: str, file: BinaryIO, size: int, *, first: int = 0) -> HttpAnswer:
        """Send a file that ends at `size` and stands at `first` with PUT, piece by piece and once; return the answer.

        Raises:
            HubUnavailableError: no answer came; all of it may have arrived.
            ArtifactError: the file is shorter.
        """
        headers = self._head(None, "application/octet-stream")
        headers["Content-Length"] = str(size - first)
        if first:
            headers["Content-Range"] = f"bytes {f'{first}-{size - 1}' if first < size else '*'}/{size}"
        rest = Exactly(file, size - first)
        with (
            self._turn("PUT", path, None, vital=False) as turn,
            self._errors(),
            self._response("PUT", path, lambda: rest, headers, turn.timeout, once=True) as response,
        ):
            turn.answered(response.status)
            return HttpAnswer(response.status, _whole(response), response.headers)

    @contextmanager
    def stream_down(
        self, path: str, *, bearer: str | None = None, first: int = 0, timeout: float | None = None
    ) -> Iterator[HttpStream]:
        """Give what the server answers to GET, from one byte of it on, to be read inside the block.

        Raises:
            HubUnavailableError: no answer came.
        """
        wanted = {"Range": f"bytes={first}-"} if first else {}
        headers = {**self._head(bearer, None), "Accept": "*/*", **wanted}
        with self._turn("GET", path, timeout, vital=False) as turn, self._errors():
            response = self._begun("GET", path, lambda: None, headers, turn.timeout)
            turn.answered(response.status)
        with _released(response):
            yield HttpStream(response, self._errors)

    def close(self) -> None:
        """Close every connection; a call from now on fails."""
        self._closed.set()
        if self._gate is not None:
            self._gate.close()
        self._server.pool.close()

    def _turn(self, method: str, path: str, timeout: float | None, *, vital: bool) -> AbstractContextManager[Turn]:
        place, limit = f"{method} {path}", self._timeout if timeout is None else timeout
        turn = None if self._gate is None else self._gate.turn(self.base_url, place, limit, vital=vital)
        return turn or nullcontext(Turn(place, limit))

    def _head(self, bearer: str | None, content_type: str | None) -> dict[str, str]:
        headers = dict(self._headers)
        if content_type is not None:
            headers["Content-Type"] = content_type
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        return headers

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | Exactly | None],
        headers: Mapping[str, str],
        timeout: float,
        *,
        once: bool = False,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._begun(method, path, body, headers, timeout, once=once)
        with _released(response):
            yield response

    def _begun(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | Exactly | None],
        headers: Mapping[str, str],
        timeout: float,
        *,
        once: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer that has begun; a connection found dead is replaced once."""
        try:
            return self._sent(method, path, body(), headers, timeout)
        except ProtocolError as error:
            if once or not _hung_up(error):
                raise
        except ClosedPoolError:
            if self._closed.is_set():
                raise
            # The server moved between the choice of a connection and its use: nothing was sent.
        return self._sent(method, path, body(), headers, timeout)

    def _sent(
        self, method: str, path: str, body: bytes | Exactly | None, headers: Mapping[str, str], limit: float
    ) -> urllib3.BaseHTTPResponse:
        server = self._server
        return server.pool.urlopen(
            method,
            server.prefix + path,
            body=cast("bytes", body),
            headers=headers,
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=min(limit, CONNECT_TIMEOUT), read=limit),
            preload_content=False,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the library raises into ours, and let whoever wants to know look why."""
        try:
            with self._translated():
                yield
        except HubUnavailableError:
            self._doubt()
            raise

    def _doubt(self) -> None:
        if self._on_doubt is not None and not self._closed.is_set():
            self._on_doubt()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the library raises into ours, the most specific first."""
        try:
            yield
        except NameResolutionError as error:
            why = "its name is not known to this machine's name service"
            raise HubUnavailableError(self.base_url, why, is_named=False) from error
        except NewConnectionError as error:
            raise HubUnavailableError(self.base_url, str(error.__cause__ or error)) from error
        except ConnectTimeoutError as error:
            raise HubUnavailableError(self.base_url, "it cannot be reached in time") from error
        except ClosedPoolError as error:
            if self._is_left:
                raise ForkedProcessError from error
            raise HubUnavailableError(self.base_url, "this connection was closed here") from error
        except ReadTimeoutError as error:
            raise HubUnavailableError(self.base_url, "no answer in time", sent=True, hangs=True) from error
        except (HTTPError, OSError) as error:
            raise HubUnavailableError(self.base_url, _why(error), sent=True) from error


def _pool(scheme: str, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(host, port, maxsize=CONNECTIONS, cert_reqs="CERT_REQUIRED", blocksize=PIECE)
    return urllib3.HTTPConnectionPool(host, port, maxsize=CONNECTIONS, blocksize=PIECE)


@contextmanager
def _released(response: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Give the connection back after a body that was read, and close it after one that was not."""
    try:
        yield
    except BaseException:
        response.close()
        raise
    if response.closed:
        response.release_conn()
    else:
        response.close()


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    content = response.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise ProtocolError(f"the answer is larger than {MAX_ANSWER} bytes")
    return content


def _why(error: Exception) -> str:
    """Return in words what went wrong once a connection was there."""
    if any(isinstance(each, IncompleteRead) for each in (error, *error.args)):
        return "its answer broke off"
    if not isinstance(error, ProtocolError):
        return str(error)
    if _hung_up(error):
        return "it hung up before it answered"
    return f"what it says cannot be understood: {error.args[0]}"


def _hung_up(error: ProtocolError) -> bool:
    """Tell whether the connection ended before the answer began."""
    return any(isinstance(reason, _HUNG_UP) for reason in (*error.args, error.__cause__))
