"""The HTTP server below the hub: uvicorn in steps of our own."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.link_socket import FRAMES
from blocks_worker.hub.network.crowd import Crowd
from blocks_worker.processes import keep_from_children
from blocks_worker.protocol.link import MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uvicorn._types import ASGIReceiveEvent

    from blocks_worker.config import HubConfig
    from blocks_worker.hub.app import Entry
    from blocks_worker.hub.link_socket import Hearer

#: Seconds that requests in flight get when the hub stops.
GRACE = 2
#: Seconds between two turns of the main loop: the date of an answer has no parts of a second.
TURN = 1.0
#: Seconds for which an idle connection is kept: longer than any caller's pause between two beats.
KEEP_ALIVE = 75


class Server(uvicorn.Server):
    """Be uvicorn's server in steps of our own; signals stay the program's."""

    #: What ends a pause of the main loop, once it is entered.
    _cut: Callable[[], object] | None = None

    async def bind(self) -> OSError | None:
        """Listen; return why that is impossible."""
        try:
            self.config.load()
        except OSError as error:
            raise ConfigurationError(
                f"certificate or key cannot be used ({error}); mend --tls-cert, --tls-key"
            ) from error
        self.lifespan = self.config.lifespan_class(self.config)
        try:
            await self.startup()
        except SystemExit as error:
            # The server ends the whole program when it cannot listen, and says why only in the cause.
            cause = error.__context__
            if not isinstance(cause, OSError):
                raise ConfigurationError("the HTTP server did not start") from error
            return cause
        keep_from_children(self)
        return None

    def leave_to_parent(self) -> Iterator[int]:
        """Give up the sockets it listens on, and those of its connections, to whoever forked this process."""
        for server in self.servers:
            yield from [each.fileno() for each in server.sockets]
        for connection in self.server_state.connections:
            yield connection.transport.get_extra_info("socket").fileno()

    async def main_loop(self) -> None:
        """Come round for the date in the answers, as uvicorn does ten times as often, until told to end."""
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        self._cut = partial(loop.call_soon_threadsafe, told.cancel)
        while not await self.on_tick(0):
            await asyncio.wait((told,), timeout=TURN)

    def end(self) -> None:
        """Leave the main loop, or do not enter it; any thread may say so."""
        # In this order: who enters it now sees the one or is cut short by the other.
        self.should_exit = True
        if self._cut is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over
                self._cut()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return cast("int", self.servers[0].sockets[0].getsockname()[1])


def server_config(config: HubConfig, entry: Entry, port: int, crowd: Crowd | None = None) -> uvicorn.Config:
    """Return how the server is to run: quiet, without lifespan, with the fastest parser there is.

    `crowd` counts the connections of each address.
    """
    return uvicorn.Config(
        cast("Any", entry),
        host=config.host,
        port=port,
        http=_protocol(crowd or Crowd("hub", config.quotas.address_connections)),
        h11_max_incomplete_event_size=16 * 1024,
        ws=LinkSocket,
        ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
    )


class LinkSocket(WebSocketsSansIOProtocol):
    """Be a link's connection: once somebody hears it, frames pass between him and the socket without a queue.

    It begins and ends as any WebSocket, by messages of ASGI. One whose client has said goodbye is closed without
    another when the hub stops.
    """

    _hearer: Hearer | None = None
    _is_held = False
    #: Whether more waits to be sent than it takes now; it is said when there is room again.
    is_full = False

    def hear(self, hearer: Hearer) -> None:
        """Give every frame that comes from now on to this hearer."""
        self._hearer = hearer
        before, self.queue = self.queue, _Inbox(hearer)
        while not before.empty():
            # Who has left already is not to be waited for.
            self.queue.put_nowait(before.get_nowait())

    def say(self, frame: bytes) -> None:
        """Send a frame; it goes nowhere when the connection has ended."""
        if not self.close_sent and not self.transport.is_closing():
            self.conn.send_binary(frame)
            self.transport.write(b"".join(self.conn.data_to_send()))

    def hold(self) -> None:
        """Read nothing more for now; what was read already still comes."""
        self._is_held = self.read_paused = True
        self.transport.pause_reading()

    def go_on(self) -> None:
        """Read on."""
        self._is_held = False
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take what came; the server stops reading at each frame, which was heard by now."""
        super().data_received(data)
        if self._hearer is not None and not self._is_held:
            self.go_on()

    def pause_writing(self) -> None:
        """Take note that the socket takes nothing more for now."""
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Say that there is room again."""
        self.is_full = False
        super().resume_writing()
        if self._hearer is not None:
            self._hearer.sent()

    async def run_asgi(self) -> None:
        """Serve it, with itself in the scope for who takes frames as they come."""
        self.scope["extensions"][FRAMES] = self  # type: ignore[assignment]  # a server's own
        await super().run_asgi()

    def shutdown(self) -> None:
        """End it."""
        if self.conn.close_rcvd is None:
            super().shutdown()
        else:
            self.transport.close()


class _Inbox(asyncio.Queue["ASGIReceiveEvent"]):
    """Give frames to their hearer, and keep what else ASGI is told."""

    def __init__(self, hearer: Hearer) -> None:
        super().__init__()
        self._hearer = hearer

    def put_nowait(self, item: ASGIReceiveEvent) -> None:
        """Take what came; a frame of text is none of a link's."""
        if item["type"] == "websocket.receive":
            self._hearer.heard(item.get("bytes") or b"")
        else:
            super().put_nowait(item)


def _protocol(crowd: Crowd) -> type[asyncio.Protocol] | Literal["h11"]:
    if find_spec("httptools") is None:
        return "h11"
    from blocks_worker.hub.connection import BoundedConnection

    return type("HubConnection", (BoundedConnection,), {"crowd": crowd})
