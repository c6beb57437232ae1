"""One HTTP connection with bounds: how long its head may be, how long head and answer may take, how many there are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from blocks_worker.hub.network.crowd import LINGER, Crowd
from blocks_worker.hub.network.settings import most_connections
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.tasks import Problem

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

#: Bytes of a request line and header fields that are gathered; far more than any honest request has.
HEAD_LIMIT = 64 * 1024
#: Seconds in which the head of a request has to be here, counted from the connection or its first byte.
HEAD_TIMEOUT = 30.0
#: Seconds in which a caller has to take some of an answer that waits for him.
TAKE_TIMEOUT = 60.0

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = encode(
    Problem(
        code="TooManyConnections",
        message="this address has as many connections open as it may: close some, or start the hub with a higher "
        "--max-address-connections",
    )
)
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\nretry-after: 5\r\n"
    b"connection: close\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
)


class BoundedConnection(HttpToolsProtocol):
    """Close a connection whose head is endless or slow, or whose caller does not read: the server below waits for ever.

    Where there are as many as there may be, one more takes the place of the one that was silent for longest, of the
    address that has most; what is being answered keeps its own. So who opens thousands loses his, and who asks at
    once is served. One address that has as many as it may is told so, whatever room there is.
    """

    head_timeout = HEAD_TIMEOUT
    take_timeout = TAKE_TIMEOUT
    #: How many one address may have; the server gives its connections one of their own.
    crowd = Crowd("hub", 0)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        #: When the other side was heard last.
        self._heard = self.loop.time()
        self._is_too_many = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request, where there is room."""
        super().connection_made(transport)
        if not self.crowd.takes(self.address, self.most(), len(self.connections), self._addresses, self._heard):
            self._turn_away()
            return
        if len(self.connections) > self.most():
            self._make_room()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        self._taken()
        if self._is_too_many:
            self.crowd.has_gone()
        super().connection_lost(exc)

    def most(self) -> int:
        """Return how many connections there may be: half as many as the network's, for those stay open."""
        return most_connections() // 2

    @property
    def address(self) -> str:
        """Where the other side is."""
        return self.client[0] if self.client else ""

    def is_answering(self) -> bool:
        """Tell whether a whole request is here whose answer is not out."""
        cycle: Any = self.cycle  # None until the first request
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is too long already."""
        if self._is_too_many:
            return
        self._heard = self.loop.time()
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        if self._timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """Stop counting: the rest is the body, which the application bounds."""
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Wait for the caller to take what is there, not for ever."""
        super().pause_writing()
        if self._untaken is None:
            self._untaken = self.loop.call_later(self.take_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: he took it."""
        self._taken()
        super().resume_writing()

    def _addresses(self) -> Iterator[str]:
        """Return where all come from, links too, whose protocol is the server's own."""
        for each in cast("set[Any]", self.connections):
            if not getattr(each, "_is_too_many", False):
                yield each.client[0] if each.client else ""

    def _turn_away(self) -> None:
        """Say that this address has as many as it may, where there is time for that, and end.

        What comes is thrown away meanwhile: closing over unread bytes would destroy the answer.
        """
        self._is_too_many = self.crowd.may_tell()
        if not self._is_too_many:
            self.connections.discard(self)
            self.transport.abort()
            return
        self.transport.write(_TURNED_AWAY)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER, self.transport.abort)

    def _make_room(self) -> None:
        """End the connection that was silent for longest, of the address that has most; this one is the last choice.

        An address with fewer than this one's never gives way to it: who opens thousands takes nobody else's.
        """
        # Links are among them, whose clients were let in.
        all_of_them = [each for each in cast("set[object]", self.connections) if isinstance(each, BoundedConnection)]
        crowd = Counter(each.address for each in all_of_them)
        silent = [
            each
            for each in all_of_them
            if each is not self and not each.is_answering() and crowd[each.address] >= crowd[self.address]
        ]
        chosen = min(silent, key=lambda each: (-crowd[each.address], each._heard), default=self)  # noqa: SLF001 - of its own kind
        # Ended now, its end is heard of at the loop's next turn: until then others must not choose it again.
        self.connections.discard(chosen)
        chosen.transport.abort()

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None
