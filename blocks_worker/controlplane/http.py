"""One HTTP connection pool to one server: the only importer of the HTTP library, whose errors become ours here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from blocks_worker.errors import ConfigurationError, HubUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Connections kept for the flows of one process: claims, reports, submits, heartbeats, polls, logins.
CONNECTIONS = 8
#: Seconds to reach a server that does not answer at all.
CONNECT_TIMEOUT = 5.0
#: Largest answer that is read, in bytes.
MAX_ANSWER = 64 * 1024 * 1024

#: The server hung up before the first byte of its answer.
_HUNG_UP = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


@dataclass(frozen=True)
class HttpAnswer:
    """What a server answered; names of headers compare without case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Http:
    """Send requests to one server over kept-alive connections.

    No proxy of the environment is used, no redirect followed, certificates are checked. Every request of
    ours may be repeated, because what it asks for is named by ids; so a connection that dies before the
    answer began is replaced once.
    """

    def __init__(self, base_url: str, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ConfigurationError(f"{base_url!r} is not the address of a hub; give one like http://127.0.0.1:3001")
        self.base_url = base_url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {"User-Agent": "blocks-worker", "Accept": "application/json", **(headers or {})}
        self._pool = _pool(parts.scheme, parts.hostname, parts.port)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        bearer: str | None = None,
        timeout: float | None = None,
    ) -> HttpAnswer:
        """Return what the server answers to one request.

        Raises:
            HubUnavailableError: no answer came; its `sent` tells whether the request may have been carried out.
        """
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        limit = self._timeout if timeout is None else timeout
        with self._errors():
            try:
                return self._exchange(method, path, body, headers, limit)
            except ProtocolError as error:
                if not _hung_up(error):
                    raise
                return self._exchange(method, path, body, headers, limit)

    def close(self) -> None:
        """Close every connection; a call from now on fails."""
        self._pool.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], limit: float
    ) -> HttpAnswer:
        response = self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=min(limit, CONNECT_TIMEOUT), read=limit),
            preload_content=False,
        )
        try:
            content = _whole(response)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return HttpAnswer(response.status, content, response.headers)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the library raises into ours, the most specific first."""
        try:
            yield
        except NewConnectionError as error:
            raise HubUnavailableError(self.base_url, str(error.__cause__ or error)) from error
        except ConnectTimeoutError as error:
            raise HubUnavailableError(self.base_url, "it cannot be reached in time") from error
        except ClosedPoolError as error:
            raise HubUnavailableError(self.base_url, "this connection was closed here") from error
        except ReadTimeoutError as error:
            raise HubUnavailableError(self.base_url, "no answer in time", sent=True) from error
        except (HTTPError, OSError) as error:
            raise HubUnavailableError(self.base_url, str(error), sent=True) from error


def _pool(scheme: str, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(host, port, maxsize=CONNECTIONS, cert_reqs="CERT_REQUIRED")
    return urllib3.HTTPConnectionPool(host, port, maxsize=CONNECTIONS)


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    content = response.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise ProtocolError(f"the answer is larger than {MAX_ANSWER} bytes")
    return content


def _hung_up(error: ProtocolError) -> bool:
    """Tell whether the connection ended before the answer began."""
    return any(isinstance(reason, _HUNG_UP) for reason in (*error.args, error.__cause__))
