"""What a link stands on: a socket for frames, and what leaves by it, in order and as fast as it takes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from blocks_worker.protocol.chunks import framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The extension of ASGI by which a WebSocket gives its `Socket`.
FRAMES = "blocks.frames"


class Hearer(Protocol):
    """Take what comes from a socket, on the loop."""

    def heard(self, frame: bytes) -> None:
        """Take a frame."""

    def sent(self) -> None:
        """Take note that the socket, which was full, has room again."""


class Socket(Protocol):
    """Be a WebSocket that is open, for frames; what it does is done at once."""

    #: Whether more waits to be sent than it takes now.
    is_full: bool

    def hear(self, hearer: Hearer) -> None:
        """Give every frame that comes from now on to this hearer."""

    def say(self, frame: bytes) -> None:
        """Send a frame; it goes nowhere when the connection has ended."""

    def hold(self) -> None:
        """Read nothing more for now; what was read already still comes."""

    def go_on(self) -> None:
        """Read on."""


class Saying:
    """Be what is said on a link and not sent yet; what is said before the end of a round leaves together.

    `at_end` has something done then, and `most` is how many bytes may wait.
    """

    def __init__(self, socket: Socket, at_end: Callable[[Callable[[], object]], object], most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._at_end = at_end
        self._most = most
        #: Operations, and their bytes; then the frames of those whose turn it is.
        self._waiting: list[bytes] = []
        self._size = 0
        self._leaving: Iterator[bytes] = iter(())
        #: Whether the loop is to look at them.
        self._is_due = False
        self._is_over = False
        #: When something was said last, by the loop's clock.
        self._spoke = self._loop.time()

    def say(self, operation: bytes) -> bool:
        """Have an operation sent; tell whether there is room for it."""
        self._waiting.append(operation)
        self._size += len(operation)
        if not self._is_due:
            self._is_due = True
            self._spoke = self._loop.time()
            self._at_end(self.go_on)
        return self._size <= self._most

    def go_on(self) -> None:
        """Send what waits, as far as the socket takes it."""
        self._is_due = False
        while not self._is_over and not self._socket.is_full:
            frame = next(self._leaving, None)
            if frame is not None:
                self._socket.say(frame)
            elif self._waiting:
                self._leaving, self._waiting, self._size = framed(self._waiting), [], 0
            else:
                return

    def silence(self) -> float:
        """Return for how many seconds nothing was said."""
        return self._loop.time() - self._spoke

    def close(self) -> None:
        """Send nothing more."""
        self._is_over = True
        self._waiting.clear()
