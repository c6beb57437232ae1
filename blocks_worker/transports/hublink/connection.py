"""One WebSocket to a hub: the only importer of its library, whose errors become ours here."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from blocks_worker.concurrency import Deadline
from blocks_worker.protocol.link import LINK_PATH, REPLACED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Seconds to reach a hub, in which it has to take one frame, and to part from it.
CONNECT_TIMEOUT = 5.0
SEND_TIMEOUT = 60.0
CLOSE_TIMEOUT = 0.5
#: Largest frame that is read, in bytes, and how many are read at once.
MAX_FRAME = 64 * 1024 * 1024
READ_AT_ONCE = 256 * 1024

#: Bytes that the C library is to keep for the next frames: several of the largest are made for one that is sent.
KEPT_MEMORY = 1024 * 1024

_UNAUTHORIZED = 401
_REVOKED = 4401
_MESSAGE = frozenset({Opcode.BINARY, Opcode.TEXT, Opcode.CONT})


class LinkDownError(Exception):
    """Say that a link is not there (any more), and why.

    Attributes:
        unauthorized: the hub did not take the token.
        replaced: whoever has this identity too has opened a newer link.
    """

    def __init__(self, reason: str, *, unauthorized: bool = False, replaced: bool = False) -> None:
        super().__init__(reason)
        self.unauthorized = unauthorized
        self.replaced = replaced


class LinkConnection:
    """Be one WebSocket: any thread sends; one thread receives, and reads the socket itself."""

    def __init__(self, opened: socket.socket, protocol: ClientProtocol) -> None:
        self._socket = opened
        self._encrypted = opened if isinstance(opened, ssl.SSLSocket) else None
        self._protocol = protocol
        #: Held while the protocol is used, and while what it has to say is sent: who waits for it may wait for the hub.
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)
        #: What the socket gives goes here first: room of this size, made anew for each frame, costs more than all else.
        self._room = memoryview(bytearray(READ_AT_ONCE))
        self._frames: deque[Frame] = deque()
        #: Of a message that has not come whole.
        self._pieces: list[bytes | bytearray | memoryview] = []
        #: Somebody here has ended it.
        self._ended = False

    @classmethod
    def open(cls, hub_url: str, bearer: str) -> LinkConnection:
        """Connect.

        Raises:
            LinkDownError: that is not possible now.
        """
        deadline = Deadline(CONNECT_TIMEOUT)
        _keep_memory()
        with _translated():
            uri = parse_uri("ws" + hub_url.removeprefix("http") + LINK_PATH)
            opened = socket.create_connection((uri.host, uri.port), CONNECT_TIMEOUT)
            try:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if uri.secure:
                    opened = ssl.create_default_context().wrap_socket(opened, server_hostname=uri.host)
                opened.settimeout(SEND_TIMEOUT)
                connection = cls(opened, ClientProtocol(uri, max_size=MAX_FRAME))
                connection._shake_hands(bearer, deadline)
            except BaseException:
                opened.close()
                raise
        return connection

    def send(self, frame: bytes) -> None:
        """Send one frame.

        Raises:
            LinkDownError: the connection is over.
        """
        with self._lock:
            self._check_open()
            try:
                self._protocol.send_binary(frame)
                self._send_all(self._protocol.data_to_send())
            except OSError as error:
                raise _down(error) from error

    def receive(self, timeout: float) -> bytes | bytearray:
        """Return the next frame, in the buffer that it was read into.

        Raises:
            LinkDownError: the connection is over, or nothing came in time.
        """
        while True:
            while self._frames and not self._ended:
                frame = self._frames.popleft()
                if frame.fin and not self._pieces:
                    return cast("bytes | bytearray", frame.data)  # what is read is no view
                self._pieces.append(frame.data)
                if frame.fin:
                    pieces, self._pieces = self._pieces, []
                    return b"".join(pieces)
            self._check_open()
            try:
                self._read(timeout)
            except OSError as error:
                raise _down(error) from error

    def end(self) -> None:
        """Say that it is over, from any thread: whoever receives is woken; what is under way may be lost."""
        self._ended = True
        if self._lock.acquire(timeout=CLOSE_TIMEOUT):
            try:
                with suppress(OSError):
                    if self._protocol.state is State.OPEN:
                        self._socket.settimeout(CLOSE_TIMEOUT)
                        self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
                        self._send_all(self._protocol.data_to_send())
            finally:
                self._lock.release()
        self._cut()

    def close(self) -> None:
        """End it, on the thread that receives."""
        self.end()
        self._socket.close()

    def _shake_hands(self, bearer: str, deadline: Deadline) -> None:
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {bearer}"
        request.headers["User-Agent"] = "blocks-worker"
        self._protocol.send_request(request)
        self._send_all(self._protocol.data_to_send())
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            if deadline.expired():
                raise TimeoutError("the hub did not answer in time")
            self._read(deadline.within(CONNECT_TIMEOUT))
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    def _read(self, timeout: float) -> None:
        """Take in what comes, waiting for it."""
        if self._encrypted is None:
            self._await_data(timeout)
            size = self._socket.recv_into(self._room)
        else:
            size = self._decrypted(self._encrypted, Deadline(timeout))
        self._enter(timeout)
        try:
            if size:
                self._protocol.receive_data(bytes(self._room[:size]))
            else:
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                if isinstance(event, Frame) and event.opcode in _MESSAGE:
                    self._frames.append(event)
            answers = self._protocol.data_to_send()
            if answers:
                with suppress(OSError):  # it cannot take one any more; the next to receive is told why
                    self._send_all(answers)
        finally:
            self._lock.release()

    def _decrypted(self, encrypted: ssl.SSLSocket, deadline: Deadline) -> int:
        """Take in what has come as a whole record; return how many bytes it is, none at the end."""
        while True:
            left = deadline.within(SEND_TIMEOUT)
            if not encrypted.pending():  # what is decrypted already the system shows no more
                self._await_data(left)
            self._enter(left)  # reading and writing at the same time is not safe there
            try:
                encrypted.settimeout(0)
                return encrypted.recv_into(self._room)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            finally:
                encrypted.settimeout(SEND_TIMEOUT)
                self._lock.release()

    def _await_data(self, timeout: float) -> None:
        if not self._poll.poll(timeout * 1000):
            raise TimeoutError("nothing came in time")

    def _enter(self, timeout: float) -> None:
        """Take the lock, which whoever sends to a hub that takes nothing has for long."""
        if not self._lock.acquire(timeout=min(timeout, SEND_TIMEOUT)):
            raise TimeoutError("the hub takes nothing")

    def _send_all(self, said: Iterable[bytes]) -> None:
        """Send it; what was sent in part only ends the connection."""
        try:
            for data in said:
                if data:
                    self._socket.sendall(data)
        except BaseException:
            self._cut()
            raise

    def _cut(self) -> None:
        with suppress(OSError):
            # That of the plain socket: what is encrypted stays so for those who still read or write.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _check_open(self) -> None:
        if self._protocol.state is State.OPEN and not self._ended:
            return
        closed = self._protocol.close_rcvd
        code = None if closed is None else closed.code
        reason = f"it was closed ({code})"
        raise LinkDownError(reason, unauthorized=code == _REVOKED, replaced=code == REPLACED)


def _keep_memory() -> None:
    """Have glibc keep free memory of the size of some frames.

    What is free beyond twice the largest block that was given back to the system, it gives back too; each page is then
    taken anew with a fault, for every frame. Here such a block is given back. (mallopt(3), M_MMAP_THRESHOLD)
    """
    bytearray(KEPT_MEMORY)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the library and the socket raise into ours."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        raise LinkDownError(f"the hub answered {status}", unauthorized=status == _UNAUTHORIZED) from error
    except (InvalidHandshake, InvalidURI, OSError) as error:
        raise _down(error) from error


def _down(error: Exception) -> LinkDownError:
    return LinkDownError(str(error) or type(error).__name__)
