"""A loopback proxy before a hub or network that loses, doubles or holds back what is said, cuts, delays or swallows.

It rewrites nothing and knows HTTP only as far as it must to tell one exchange from the next. Point a worker or
client at it by a CDM document that names its address (`cdm_through`).

    with FaultProxy(hub_url) as proxy:
        proxy.fail(Fault.DROP_REPLY, when=lambda exchange: exchange.number == 3)

`exchanges` lists what came so far. `cut`, `black_hole` and `delay` hold for everything until `heal`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_hub import Answered
    from typing_extensions import Self

_PIECE = 65_536
_HEAD_END = b"\r\n\r\n"


class Fault(Enum):
    """What happens to one exchange; after all but a doubled one the connection is closed: so its caller learns."""

    #: The server never sees it.
    DROP_REQUEST = "request dropped"
    #: The server carries it out, nobody hears of it.
    DROP_REPLY = "reply dropped"
    #: It is read and never answered; the connection stays open until `heal` or `stop`.
    HANG = "hangs"
    #: The server gets it twice at the same time; the caller hears the first answer.
    DOUBLE = "doubled"
    #: The caller hears nothing; the server gets it `late` seconds later, when it may have been said again.
    LATE = "late"
    #: The connection breaks, both ways, once so many bytes of a body were passed on (`cut_bodies`).
    CUT = "cut"


@dataclass
class Exchange:
    """One request, numbered from 0 as it came; `fault` is what was done to it, `status` what the server said."""

    number: int
    method: str
    path: str
    body: bytes = b""
    fault: Fault | None = None
    status: int | None = None


@dataclass
class _Rule:
    fault: Fault
    when: Callable[[Exchange], bool]
    left: int


@dataclass
class FaultProxy:
    """Stand before one server; started and stopped as a context manager."""

    target: str
    exchanges: list[Exchange] = field(default_factory=list)
    #: Seconds that a late request is held back.
    late: float = 0.3

    def __post_init__(self) -> None:
        self._lock = threading.Condition()
        self._rules: list[_Rule] = []
        self._delay = 0.0
        self._delays: Callable[[Exchange], bool] = lambda _exchange: True
        self._is_cut = False
        self._hangs = False
        self._stopped = False
        self._cuts: list[int] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: How many connections came, those that were cut at once too.
        self.connections = 0

    @property
    def url(self) -> str:
        """The address to use in place of the server's."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    # ------------------------------------------------------------------ faults
    def fail(self, fault: Fault, when: Callable[[Exchange], bool] = lambda _exchange: True, times: int = 1) -> None:
        """Do this to the next exchanges that fit, so many times."""
        with self._lock:
            self._rules.append(_Rule(fault, when, times))

    def cut(self) -> None:
        """Break every connection, and each new one, until `heal`."""
        with self._lock:
            self._is_cut = True
        self._break_all()

    def cut_bodies(self, after: list[int]) -> None:
        """Break the next PUTs that are longer, each after so many bytes of its body."""
        with self._lock:
            self._cuts = list(after)

    def black_hole(self) -> None:
        """Take requests and answer none, until `heal`; those are lost."""
        with self._lock:
            self._hangs = True

    def delay(self, seconds: float, when: Callable[[Exchange], bool] = lambda _exchange: True) -> None:
        """Hold each request that fits back so long, until `heal`."""
        with self._lock:
            self._delay, self._delays = seconds, when

    def heal(self) -> None:
        """Be a plain proxy again; connections that hang are closed."""
        with self._lock:
            self._rules, self._delay, self._is_cut, self._hangs = [], 0.0, False, False
            self._lock.notify_all()

    def relent(self) -> None:
        """Be a plain proxy for what comes from now on; what hangs goes on hanging, with its connection."""
        with self._lock:
            self._rules, self._delay, self._is_cut, self._hangs = [], 0.0, False, False

    def count(self, path: str) -> int:
        """Return how many exchanges went to a path."""
        return sum(exchange.path == path for exchange in list(self.exchanges))

    # ------------------------------------------------------------------ life
    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
        # Closing alone does not wake who waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), thread

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, name="fault-proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, client)

    def _break_all(self) -> None:
        with self._lock:
            for open_socket in self._sockets:
                _shut(open_socket)

    # ------------------------------------------------------------------ one connection
    def _serve(self, client: socket.socket) -> None:
        with client:
            server: socket.socket | None = None
            try:
                if not self._holds(client):
                    return
                server = self._connected()
                if self._holds(server):
                    self._exchange_all(_Stream(client), _Stream(server))
            except OSError:
                return
            finally:
                with self._lock:
                    self._sockets -= {client, server}
                if server is not None:
                    server.close()

    def _holds(self, one: socket.socket) -> bool:
        """Remember a socket, so that it can be broken; tell whether it may be used."""
        with self._lock:
            self._sockets.add(one)
            return not (self._is_cut or self._stopped)

    def _exchange_all(self, client: _Stream, server: _Stream) -> None:
        while True:
            request = client.message(self._most)
            if request is None:
                return
            exchange, pause = self._noted(request)
            if exchange.fault is Fault.CUT:
                server.send(request)
                return
            if pause:
                self._wait(pause)
            if exchange.fault is Fault.HANG:
                self._wait(None)
            if exchange.fault is Fault.LATE:
                self._spawn(self._say_late, request, exchange)
            if exchange.fault in {Fault.HANG, Fault.DROP_REQUEST, Fault.LATE}:
                return
            reply = self._said_twice(request, server) if exchange.fault is Fault.DOUBLE else _asked(request, server)
            if reply is None:
                return
            exchange.status = _status(reply)
            if exchange.fault is Fault.DROP_REPLY:
                return
            client.send(reply)

    def _most(self, head: bytes) -> int | None:
        """Return after how many bytes the body behind a head is cut off, if it is."""
        with self._lock:
            return self._cuts.pop(0) if self._cuts and head.startswith(b"PUT ") else None

    def _said_twice(self, request: bytes, server: _Stream) -> bytes | None:
        with self._connected() as other:
            server.send(request)
            again = _asked(request, _Stream(other))
            return server.message() if again is not None else None

    def _say_late(self, request: bytes, exchange: Exchange) -> None:
        self._wait(self.late)
        with contextlib.suppress(OSError), self._connected() as server:
            reply = _asked(request, _Stream(server))
            exchange.status = None if reply is None else _status(reply)

    def _connected(self) -> socket.socket:
        parts = urlsplit(self.target)
        made = socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=10)
        made.settimeout(None)
        return made

    def _noted(self, request: bytes) -> tuple[Exchange, float]:
        method, target, _ = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        with self._lock:
            body = request.partition(_HEAD_END)[2]
            exchange = Exchange(len(self.exchanges), method, target.partition("?")[0], body)
            self.exchanges.append(exchange)
            if len(body) < _length(request):
                exchange.fault = Fault.CUT
                return exchange, 0.0
            for rule in self._rules:
                if rule.left and rule.when(exchange):
                    rule.left -= 1
                    exchange.fault = rule.fault
                    break
            if self._hangs:
                exchange.fault = Fault.HANG
            return exchange, self._delay if self._delays(exchange) else 0.0

    def _wait(self, seconds: float | None) -> None:
        """Wait so long, or until the proxy heals or stops."""
        with self._lock:
            if not self._stopped:
                self._lock.wait(seconds)


class _Stream:
    """Cut the bytes of one side into whole messages."""

    def __init__(self, one: socket.socket) -> None:
        self._socket = one
        self._buffer = b""

    def send(self, message: bytes) -> None:
        self._socket.sendall(message)

    def message(self, most: Callable[[bytes], int | None] = lambda _head: None) -> bytes | None:
        """Return the next request or reply as it travelled; None when the peer hung up.

        `most` tells of which heads no more than so many bytes of the body are to be waited for.
        """
        if not self._read_until(lambda: _HEAD_END in self._buffer):
            return None
        head = self._buffer[: self._buffer.index(_HEAD_END) + len(_HEAD_END)]
        fields = head.lower()
        if b"transfer-encoding: chunked" in fields:
            raise OSError("this proxy carries no chunked messages")
        length, cut = _length(head), most(head)
        length = length if cut is None else min(length, cut)
        if not self._read_until(lambda: len(self._buffer) >= len(head) + length):
            return None
        whole, self._buffer = self._buffer[: len(head) + length], self._buffer[len(head) + length :]
        return whole

    def _read_until(self, done: Callable[[], bool]) -> bool:
        while not done():
            piece = self._socket.recv(_PIECE)
            if not piece:
                return False
            self._buffer += piece
        return True


def _length(message: bytes) -> int:
    head = message.partition(_HEAD_END)[0].lower() + _HEAD_END
    return int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")


def _asked(request: bytes, server: _Stream) -> bytes | None:
    server.send(request)
    return server.message()


def _status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def cdm_through(
    cdm: Answered, folder: Path, *, hub: FaultProxy | None = None, network: FaultProxy | None = None
) -> str:
    """Write the hub's CDM document with the proxies in place of hub and network; return the path of the file."""
    document = cdm.json
    if hub is not None:
        document |= {"hubUrl": hub.url, "api": {**document.get("api", {}), "baseUrl": hub.url}}
    if network is not None:
        document["origin"] = network.url
    path = folder / f"cdm-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(document))
    return str(path)
