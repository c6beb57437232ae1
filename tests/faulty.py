"""A proxy before a network that spoils what a test wants spoiled, and passes on the rest."""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from canned import reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Is given the address of a request and what carries it out; returns the bytes to send, None to cut the line.
    Rule = Callable[[str, Callable[[], bytes]], bytes | None]


class Faulty(ThreadingHTTPServer):
    """Forward each request as `rule` says; every reply it lets through is a plain one of status and body."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.port = self.server_address[1]
        self.rule: Rule = lambda _path, forward: forward()
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def do_GET(self) -> None:
        """Carry out one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        answer = self.server.rule(path, lambda: self._forward(body))
        if answer is None:
            self.close_connection = True
            return
        try:
            self.wfile.write(answer)
        except OSError:
            self.close_connection = True

    do_POST = do_GET  # noqa: N815 - the name that the base class looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _forward(self, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body or None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return reply(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()


@contextmanager
def faulty(upstream: int) -> Iterator[Faulty]:
    """Give a proxy before the network at this port."""
    server = Faulty(upstream)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def body_of(answer: bytes) -> bytes:
    """Return the body of a reply."""
    return answer.partition(b"\r\n\r\n")[2]
