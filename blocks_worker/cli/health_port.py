"""The health port of `blocks-run`: a small HTTP server on loopback, off by default, that tells of all its agents."""

from __future__ import annotations

import errno
import logging
import os
import selectors
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks_worker.cli.health_pages import HealthPages, Page
from blocks_worker.concurrency import ServiceThread
from blocks_worker.config import is_loopback_host
from blocks_worker.errors import ConfigurationError
from blocks_worker.processes import keep_from_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

_logger = logging.getLogger(__name__)

#: Nobody else is to learn from it, or can: a proxy beside it, or an agent of the node, brings it further.
HOST = "127.0.0.1"
#: Requests that are answered at the same time; one more is closed unanswered.
MOST_REQUESTS = 8
#: Seconds without a byte after which a connection is closed.
PATIENCE = 5.0

#: How it calls itself to callers.
SERVER = "blocks"

_NOT_FOUND, _FORBIDDEN, _FAILED = 404, 403, 500


class HealthPort:
    """Own the listening socket, the thread "health", and a short daemon thread for each request.

    All are daemons: a caller who hangs must not keep the process alive, and one that drains still answers.
    """

    def __init__(self, port: int, pages: HealthPages) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is taken, or may not be used.
        """
        try:
            self._server = _Server(port, pages.page)
        except OSError as error:
            raise _not_bound(port, error) from error
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
                self._server.handle_request()


class _Server(HTTPServer):
    """Take connections, each on a thread of its own, so that one who sends nothing holds up no other."""

    allow_reuse_address = True
    #: Who calls `handle_request` knows that somebody waits; if he went meanwhile, nobody is waited for.
    timeout = 0

    def __init__(self, port: int, page: Callable[[str], Page | None]) -> None:
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__((HOST, port), lambda *given: _Request(page, *given))

    def server_bind(self) -> None:
        """Listen, without the look after this machine's name that the standard library makes: it may take long."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer one request on its own thread."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            ServiceThread("health-request", lambda: self._answer(request, client_address), daemon=True).start()
        except BaseException:
            self._free.release()
            raise

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
            self._free.release()


class _Request(BaseHTTPRequestHandler):
    """Answer GET, one request a connection."""

    timeout = PATIENCE
    server_version = SERVER
    sys_version = ""

    def __init__(self, page: Callable[[str], Page | None], *given: Any) -> None:
        self._page = page
        super().__init__(*given)

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
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)


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
