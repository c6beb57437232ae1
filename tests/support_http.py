"""A server that answers scripted bytes on real sockets, and a client of it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.controlplane.http import Http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Steps of a script that are no answer: hang up without a word, and say nothing at all.
HANG_UP = None
SILENCE = b""


def reply(status: int, body: bytes = b"{}") -> bytes:
    """Return the bytes of an answer."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class Server:
    """Answer each request, on whichever connection, with the next step of a script."""

    def __init__(self, script: list[bytes | None]) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def close(self) -> None:
        """Close everything and join the threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        # Then no other connection comes.
        self._threads[0].join(5)
        for one in self._open:
            with_suppressed(partial(one.shutdown, socket.SHUT_RDWR))
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(partial(with_suppressed, partial(self._serve, connection)))

    def _serve(self, connection: socket.socket) -> None:
        while True:
            request = b""
            while b"\r\n\r\n" not in request:
                got = connection.recv(65536)
                if not got:
                    return
                request += got
            head, _, body = request.partition(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    while len(body) < int(line.split(b":")[1]):
                        body += connection.recv(65536)
            self.requests.append(head + b"\r\n\r\n" + body)
            step = self.script.pop(0)
            if step is HANG_UP:
                connection.shutdown(socket.SHUT_RDWR)
                return
            connection.sendall(step)
            if b"Content-Length: 999" in step:
                connection.shutdown(socket.SHUT_RDWR)
                return


def with_suppressed(act: Callable[[], None]) -> None:
    """Do what may fail because the other side is gone."""
    with suppress(OSError):
        act()


@contextmanager
def served(*script: bytes | None, timeout: float = 5.0) -> Iterator[tuple[Server, Http]]:
    """Run a server and a client of it."""
    server = Server(list(script))
    http = Http(server.url + "/base", timeout=timeout, headers={"X-Extra": "1"})
    try:
        yield server, http
    finally:
        http.close()
        server.close()
