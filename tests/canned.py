"""A tiny HTTP server that answers whatever bytes a test wants, to see what a client makes of them."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


def reply(status: int, body: bytes, *, kind: str = "text/javascript", extra: str = "") -> bytes:
    """Return the bytes of a reply."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class Canned:
    """Answer each connection's first request with the same bytes, then close, or reset with ``rst``, or hang."""

    def __init__(self, answer: bytes = b"", *, rst: bool = False) -> None:
        self._answer = answer
        self._rst = rst
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                self.requests.append(_read_request(connection))
                if self._rst:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.sendall(self._answer)


def _read_request(connection: socket.socket) -> bytes:
    """Return a whole request, its body too: an unread rest would turn the close into a reset."""
    read = b""
    while b"\r\n\r\n" not in read:
        got = connection.recv(65536)
        if not got:
            return read
        read += got
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
