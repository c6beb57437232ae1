"""A loopback proxy before a hub: it cuts its links between two frames, doubles a frame or holds it; the rest passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

Way = Literal["to hub", "from hub"]
#: What happens to a frame: the link is cut before it passes or right after, it passes twice, or it and all behind it
#: pass `late` seconds later.
Blow = Literal["cut before", "cut after", "doubled", "late"]
_CARRYING = (1, 2)
#: More frames than there ever are.
MANY = 1 << 40
_SHORT, _MEDIUM = 126, 127


@dataclass
class FrameProxy:
    """Stand before one hub; started and stopped as a context manager. `frames` counts those that carry something."""

    target: str
    frames: dict[Way, int] = field(default_factory=lambda: {"to hub": 0, "from hub": 0})
    late: float = 0.1

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._aim: tuple[Way, range, Blow] | None = None
        #: How often a frame was struck.
        self.strikes = 0
        self._ends = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """The address to use in place of the hub's."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def strike(self, way: Way, number: int, blow: Blow, *, every: int | None = None) -> None:
        """Do this to the frame of this number from now on, and to each so many behind it."""
        with self._lock:
            first = self.frames[way] + number
            self._aim = (way, range(first, first + 1 if every is None else MANY, every or 1), blow)

    def relent(self) -> None:
        """Strike no more."""
        with self._lock:
            self._aim = None

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ends.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                _shut(one)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), thread
        for one in self._sockets:
            one.close()

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, name="frame-proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            parts = urlsplit(self.target)
            try:
                server = socket.create_connection((str(parts.hostname), int(parts.port or 80)))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
                if self._ends.is_set():  # all others were shut before
                    _shut(client)
                    _shut(server)
            is_link = threading.Event()
            self._spawn(self._carry, client, server, "to hub", is_link)
            self._spawn(self._carry, server, client, "from hub", is_link)

    def _carry(self, source: socket.socket, sink: socket.socket, way: Way, is_link: threading.Event) -> None:
        with contextlib.suppress(OSError):
            head = source.recv(65_536)
            if way == "to hub" and head.startswith(b"GET /api/v1/link"):
                is_link.set()
            if head.startswith(b"HTTP/1.1 101") or is_link.is_set():
                self._carry_link(source, sink, way, head)
            else:
                while head:
                    sink.sendall(head)
                    head = source.recv(65_536)
        _shut(source)
        _shut(sink)

    def _carry_link(self, source: socket.socket, sink: socket.socket, way: Way, head: bytes) -> None:
        while b"\r\n\r\n" not in head:
            piece = source.recv(65_536)
            if not piece:
                return
            head += piece
        end = head.index(b"\r\n\r\n") + 4
        sink.sendall(head[:end])
        for kind, frame in _frames(source, head[end:]):
            blow = self._struck(way) if kind in _CARRYING else None
            if blow == "cut before":
                return
            if blow == "late":
                self._ends.wait(self.late)
            sink.sendall(frame * 2 if blow == "doubled" else frame)
            if blow == "cut after":
                return

    def _struck(self, way: Way) -> Blow | None:
        """Count a frame; return what happens to it."""
        with self._lock:
            number = self.frames[way]
            self.frames[way] += 1
            if self._aim is None or way != self._aim[0] or number not in self._aim[1]:
                return None
            self.strikes += 1
            return self._aim[2]


def _frames(source: socket.socket, buffer: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of one side as they travelled, with their kinds."""
    while True:
        size = _size(buffer)
        while size is None or len(buffer) < size:
            piece = source.recv(65_536)
            if not piece:
                return
            buffer += piece
            size = _size(buffer)
        yield buffer[0] & 0x0F, buffer[:size]
        buffer = buffer[size:]


def _size(buffer: bytes) -> int | None:
    """Return the bytes of the frame that begins here; None when that cannot be known yet."""
    if len(buffer) < 2:
        return None
    length, more = buffer[1] & 0x7F, {_SHORT: 2, _MEDIUM: 8}.get(buffer[1] & 0x7F, 0)
    if len(buffer) < 2 + more:
        return None
    if more:
        length = int.from_bytes(buffer[2 : 2 + more], "big")
    return 2 + more + (4 if buffer[1] & 0x80 else 0) + length


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
