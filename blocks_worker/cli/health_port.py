"""The health port of `blocks-run`: a small HTTP server on loopback, off by default, that tells of all its agents."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import selectors
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks_worker.cli.health_pages import HealthPages, Page
from blocks_worker.concurrency import Clock, Deadline, ServiceThread
from blocks_worker.config import is_loopback_host
from blocks_worker.errors import ConfigurationError
from blocks_worker.processes import keep_from_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

_logger = logging.getLogger(__name__)

#: Nobody else is to learn from it, or can: a proxy beside it, or an agent of the node, brings it further.
HOST = "127.0.0.1"
#: Requests that are answered at the same time; one more waits for `ROOM`, and then the oldest of them is closed.
MOST_REQUESTS = 8
#: Connections that wait to be taken.
BACKLOG = 128
#: Seconds in which a request has to be there, whole.
PATIENCE = 5.0
#: Seconds that a connection waits for those before it: who asks for a page has it sooner.
ROOM = 0.2
#: Seconds until the next try when a connection cannot be taken: no descriptor is free.
RETRY = 0.2

#: Of a connection that is shut: reading and writing, in the words of the socket library.
_BOTH_WAYS = 2
#: How it calls itself to callers.
SERVER = "blocks"

_NOT_FOUND, _FORBIDDEN, _FAILED = 404, 403, 500


class HealthPort:
    """Own the listening socket, the thread "health", and a short daemon thread for each request.

    All are daemons: a caller who hangs must not keep the process alive, and one that drains still answers.
    """

    def __init__(self, port: int, pages: HealthPages, *, patience: float = PATIENCE) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is taken, or may not be used.
        """
        try:
            self._server = _Server(port, pages.page, patience)
        except OSError as error:
            raise _not_bound(port, error) from error
        self._clock = Clock()
        self._woken, self._waker = os.pipe()
        self._thread = ServiceThread("health", self._serve, daemon=True)
        keep_from_children(self)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.write(self._waker, b".")
        self._thread.join(PATIENCE)
        self._server.server_close()
        os.close(self._waker)
        os.close(self._woken)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._server.server_port}"

    def leave_to_parent(self) -> Iterator[int]:
        """Give up the socket to whoever forked this process."""
        yield self._server.fileno()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is self._server for key, _ in selector.select()):
                self._server.could_take = True
                self._server.handle_request()
                if not self._server.could_take:
                    # The caller still waits, so the selector would come back at once.
                    self._clock.pause(RETRY)


class _Server(HTTPServer):
    """Take connections, each on a thread of its own, so that one who sends nothing holds up no other.

    Attributes:
        could_take: whether the last connection was; only the thread that takes them looks.
    """

    allow_reuse_address = True
    request_queue_size = BACKLOG
    #: Who calls `handle_request` knows that somebody waits; if he went meanwhile, nobody is waited for.
    timeout = 0

    def __init__(self, port: int, page: Callable[[str], Page | None], patience: float = PATIENCE) -> None:
        self.could_take = True
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        self._lock = threading.Lock()
        #: Connections that are read or answered, the oldest first.
        self._taken: list[Any] = []
        super().__init__((HOST, port), lambda *given: _Request(page, Deadline(patience), *given))

    def server_bind(self) -> None:
        """Listen, without the look after this machine's name that the standard library makes: it may take long."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def get_request(self) -> Any:
        """Take a connection; note when that fails, which the standard library keeps to itself."""
        try:
            return super().get_request()
        except OSError:
            self.could_take = False
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer one request on its own thread."""
        if not self._has_room():
            self.shutdown_request(request)
            return
        with self._lock:
            self._taken.append(request)
        try:
            ServiceThread("health-request", lambda: self._answer(request, client_address), daemon=True).start()
        except BaseException:
            self._leave(request)
            raise

    def _has_room(self) -> bool:
        """Wait for room, and make some: callers who are slow must not shut the port for the others."""
        if self._free.acquire(timeout=ROOM):
            return True
        with self._lock:
            oldest = self._taken.pop(0) if self._taken else None
        if oldest is not None:
            with contextlib.suppress(OSError):  # it went by itself
                oldest.shutdown(_BOTH_WAYS)
        return self._free.acquire(timeout=ROOM)

    def _leave(self, request: Any) -> None:
        with self._lock:
            self._taken = [each for each in self._taken if each is not request]
        self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection died of; most of it is callers who went."""
        del request, client_address
        _logger.debug("health_request_failed", extra={"error": repr(sys.exc_info()[1])})

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - the top of a thread: the server's own hook reports it
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            self._leave(request)


class _Request(BaseHTTPRequestHandler):
    """Answer GET, one request a connection."""

    server_version = SERVER
    sys_version = ""

    def __init__(self, page: Callable[[str], Page | None], deadline: Deadline, *given: Any) -> None:
        self._page = page
        self._deadline = deadline
        super().__init__(*given)

    def setup(self) -> None:
        """Read by the deadline."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Timed(self.connection, self._deadline))

    def do_GET(self) -> None:
        """Answer with the page of the address."""
        path = self.path.partition("?")[0]
        if not _is_ours(self.headers.get("host", "")):
            self._send(Page.sentence(_FORBIDDEN, "this port does not go by that name"))
            return
        try:
            page = self._page(path)
        except Exception:  # the top of a request: told and logged
            _logger.exception("health_page_failed", extra={"path": path})
            page = Page.sentence(_FAILED, "this page failed; the log tells more")
        known = ", ".join(HealthPages.PATHS)
        self._send(page or Page.sentence(_NOT_FOUND, f"there is no such page here; there are: {known}"))

    def log_message(self, *_given: Any) -> None:
        """Say nothing: callers come every few seconds."""

    def _send(self, page: Page) -> None:
        self.connection.settimeout(PATIENCE)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)


class _Timed(io.RawIOBase):
    """Read a connection until one moment, however it drips: its own timeout begins anew with each byte."""

    def __init__(self, connection: Any, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        """Say so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there.

        Raises:
            TimeoutError: the time is over.
        """
        left = self._deadline.remaining()
        if not left:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return int(self._connection.recv_into(buffer))


def check_port(port: int) -> None:
    """Listen there for a moment.

    Raises:
        ConfigurationError: the port is taken, or may not be used.
    """
    try:
        _Server(port, lambda _path: None).server_close()
    except OSError as error:
        raise _not_bound(port, error) from error


def _is_ours(host: str) -> bool:
    """Tell whether the name is this machine's own: a page of a foreign site may have its name point here."""
    try:
        return is_loopback_host(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _not_bound(port: int, error: OSError) -> ConfigurationError:
    why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return ConfigurationError(
        f"the health port {port} {why}; give another with --health-port or BLOCKS_HEALTH_PORT, 0 for any free one"
    )
