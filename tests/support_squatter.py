"""Somebody else on a port that was ours: he hangs up, or answers everything in his own way."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>no</p>"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 16\r\n\r\n<h1>welcome</h1>"
NOISE = b"\x16\x03\x01\x00\xff this is no HTTP\r\n\r\n"


class Squatter:
    """Listen on a port; give each connection the same answer, or none, and end it. `heard` counts connections."""

    def __init__(self, port: int, answer: bytes = b"") -> None:
        self.heard = 0
        self._answer = answer
        self._closing = False
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(64)
        self._thread = threading.Thread(target=self._serve, name="squatter")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closing = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.heard += 1
            with connection:
                self._treat(connection)

    def _treat(self, connection: socket.socket) -> None:
        if not self._answer:
            # An end without a farewell, as of something that crashed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        connection.settimeout(2)
        try:
            connection.recv(65536)
            connection.sendall(self._answer)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return
