"""One connection of the local network's server: one request at a time, its answer now or later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from blocks_worker.hub.network.crowd import Crowd
from blocks_worker.hub.network.reading import RequestReader
from blocks_worker.hub.network.wire import Refused, Reply, Request, rendered, sentence

#: An answer: here already, or held until something happens; who cancels it wants it no more.
Answer = Reply | asyncio.Future[Reply]
Handle = Callable[[Request], Answer]

#: Bytes that are read at once.
ROOM = 16 * 1024
#: Seconds for a refused client to read our answer before the connection is cut.
LINGER = 2.0
#: Seconds for the head of a request, from its first byte.
HEAD = 10.0
#: Seconds for a whole request, from its first byte, or for a client to take its answer.
STALLED = 30.0
#: Seconds that a connection may rest between two requests.
IDLE = 300.0


@dataclass(slots=True)
class Spoiled(Reply):
    """Be no answer: `deliver` is given the line, and does with it what it likes."""

    deliver: Callable[[asyncio.Transport], None] = asyncio.Transport.abort


class Connection(asyncio.BufferedProtocol):
    """Feed a reader, hand each request on, write each reply.

    While an answer is held nothing more is read than one buffer, and the client's going away cancels it.
    A client that does not take its answers gets no further request served. One connection more than `most` takes
    the place of the one that rested longest; a poll that is held keeps its own. One of an address that has as many as
    it may is told so.
    """

    def __init__(self, handle: Handle, connections: set[Connection], *, most: int, crowd: Crowd | None = None) -> None:
        self._handle = handle
        self._connections = connections
        self._most = most
        self._crowd = crowd or Crowd("network", 0)
        #: Where the other side is.
        self.address = ""
        self._is_too_many = False
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader()
        self._room = memoryview(bytearray(ROOM))
        self._transport: asyncio.Transport
        self._request: Request | None = None
        self._held: asyncio.Future[Reply] | None = None
        self._blocked = False
        self._ending: asyncio.TimerHandle | None = None
        self._touched = self._loop.time()
        #: Since when a request is incomplete for want of bytes; a byte more does not renew it.
        self._incomplete_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, where there is room."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._connections.add(self)
        if not self._crowd.takes(self.address, self._most, len(self._connections), self._addresses, self._touched):
            self._turn_away()
        elif len(self._connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it ended changes nothing
        """Drop what was held for this client."""
        self._connections.discard(self)
        if self._is_too_many:
            self._crowd.has_gone()
        if self._held is not None:
            self._held.cancel()
        if self._ending is not None:
            self._ending.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the room is what there is
        """Say where to put what comes: a fresh buffer for each read costs as much as the rest of a request."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes; those of a next request wait until the last one is answered."""
        if self._ending is not None:
            return
        self._touched = self._loop.time()
        self._reader.feed(self._room[:nbytes])
        if self._request is not None or self._blocked:
            self._transport.pause_reading()
        else:
            self._advance()

    def pause_writing(self) -> None:
        """Serve nothing more while the client does not take its answers."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked = False
        self._touched = self._loop.time()
        self._go_on()

    def expire(self, now: float) -> None:
        """Cut the connection when it rests, drips or stalls too long; a held answer is none of these."""
        if self._held is None and self._is_late(now):
            self._transport.abort()

    def _is_late(self, now: float) -> bool:
        if self._incomplete_since is not None:
            return now - self._incomplete_since > (HEAD if self._reader.is_in_head() else STALLED)
        stalled = self._blocked or self._reader.has_begun()
        return now - self._touched > (STALLED if stalled else IDLE)

    def descriptor(self) -> int:
        """Return the number of its socket."""
        return cast("int", self._transport.get_extra_info("socket").fileno())

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    def silence(self) -> None:
        """Say nothing and take nothing any more, with the line left open."""
        if self._held is not None:
            self._held.cancel()
        self._transport.pause_reading()

    def _addresses(self) -> Iterator[str]:
        return (each.address for each in self._connections if not each._is_too_many)  # noqa: SLF001 - of its own kind

    def _turn_away(self) -> None:
        """Say that this address has as many as it may, where there is time for that, and end."""
        self._is_too_many = self._crowd.may_tell()
        if self._is_too_many:
            self._refuse(sentence(503, "Too Many Connections From This Address", service="Balancer"))
        else:
            self._connections.discard(self)
            self.abort()

    def _make_room(self) -> None:
        """End the connection that was silent for longest; this one is the last to be chosen."""
        silent = [each for each in self._connections if each is not self and each._held is None]  # noqa: SLF001
        chosen = min(silent, key=lambda each: each._touched, default=self)  # noqa: SLF001 - of its own kind
        # Ended now, its end is heard of at the loop's next turn: until then others must not choose it again.
        self._connections.discard(chosen)
        chosen.abort()

    def _advance(self) -> None:
        if self._request is not None or self._blocked or self._transport.is_closing():
            return
        try:
            self._request = self._reader.next()
        except Refused as refusal:
            self._refuse(refusal.reply)
            return
        if self._request is not None:
            self._incomplete_since = None
            self._take(self._handle(self._request))
            return
        if self._incomplete_since is None:
            self._incomplete_since = self._loop.time()
        if self._reader.take_expectation():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, answer: Answer) -> None:
        if isinstance(answer, Reply):
            self._send(answer)
        else:
            self._held = answer
            answer.add_done_callback(self._release)

    def _release(self, held: asyncio.Future[Reply]) -> None:
        self._held = None
        if not held.cancelled():
            self._touched = self._loop.time()
            self._send(held.result())

    def _send(self, reply: Reply) -> None:
        request, self._request = self._request, None
        if request is None or self._transport.is_closing():
            return
        if isinstance(reply, Spoiled):
            reply.deliver(self._transport)
            return
        self._transport.write(rendered(reply, keep_alive=request.keep_alive))
        if request.keep_alive:
            self._go_on()
        else:
            self._transport.close()

    def _go_on(self) -> None:
        """Serve what waits already on the next turn of the loop, so that other connections get theirs."""
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._reader.has_begun():
            self._loop.call_soon(self._advance)

    def _refuse(self, reply: Reply) -> None:
        """Answer and end. What still comes is thrown away: closing over unread bytes would destroy the answer."""
        self._transport.write(rendered(reply, keep_alive=False))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._ending = self._loop.call_later(LINGER, self._transport.abort)
