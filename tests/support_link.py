"""A hub's links without the rest of a hub, what may go wrong on one, and transports over it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localnet import KEYS, OTHER_KEYS
from pubnub_pair import Tokens
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import HubConfig
from blocks_worker.hub.app import App
from blocks_worker.hub.audit import Audit
from blocks_worker.hub.auth.guard import Guard
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import Kind
from blocks_worker.hub.auth.tokens import Tokens as HubTokens
from blocks_worker.hub.link import UNSENT, Links
from blocks_worker.hub.link_socket import FRAMES
from blocks_worker.hub.network.network import LocalNetwork
from blocks_worker.hub.server import Server, server_config
from blocks_worker.hub.traffic import Traffic
from blocks_worker.hub.watch import Watch
from blocks_worker.transports.hublink.link import Link
from blocks_worker.transports.hublink.transport import HubLinkTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import LoopThread
    from support_hub import Caller

    from blocks_worker.transports.base import AtOnce

#: What can go wrong on a link; it is a stream of bytes, which keeps its order.
LINK_FAULTS = frozenset({"drop", "delay", "duplicate", "cut", "refuse", "hang"})


class Bearer:
    """Be the login of somebody whose token never ends."""

    def __init__(self, token: str) -> None:
        self._token = token

    def access_token(self) -> str:
        """Return the token."""
        return self._token

    def on_unauthorized(self, refused: str) -> bool:
        """Have no other one."""
        return refused != self._token


@dataclass(frozen=True)
class _User:
    subscribe_key: str
    user_id: str


class Spoiled:
    """Stand before the links and spoil frames: those that publish, or those that bring what was published."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.fault = ""
        self.left = 0
        #: Set when connections that hang are to be cut.
        self.healed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Be an ASGI application."""
        gone = asyncio.Event()

        async def gone_or_receive() -> Any:
            waits = [asyncio.ensure_future(each) for each in (receive(), gone.wait())]
            done, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in left:
                each.cancel()
            message = done.pop().result()
            return {"type": "websocket.disconnect", "code": 1006} if message is True else message

        if scope["type"] == "websocket":
            scope["extensions"][FRAMES] = _SpoiledSocket(self, scope["extensions"][FRAMES], gone)
        await self._app(scope, gone_or_receive, send)

    def strikes(self, fault: str) -> bool:
        """Tell whether this fault is due now."""
        if self.fault != fault or not self.left:
            return False
        self.left -= 1
        return True


class _SpoiledSocket:
    """Stand between a link and its socket; `gone` has the link end as if its client had left."""

    def __init__(self, spoiled: Spoiled, socket: Any, gone: asyncio.Event) -> None:
        self._spoiled = spoiled
        self._socket = socket
        self._gone = gone
        self._cut = False
        self._late: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def hear(self, hearer: Any) -> None:
        """Take what comes, in place of the link."""
        self._hearer = hearer
        self._socket.hear(self)

    def sent(self) -> None:
        """Pass it on."""
        self._hearer.sent()

    def heard(self, frame: bytes) -> None:
        """Pass a frame on, or spoil it."""
        strikes = self._spoiled.strikes
        if self._gone.is_set():
            return
        if b'["publish"' in frame:
            if strikes("drop"):
                self._cut = True
            elif strikes("cut"):
                self._gone.set()
                return
            elif strikes("refuse"):
                self._socket.say(b'[["answer",%d,403,{}]]' % json.loads(frame)[-1][1])
                return
            elif strikes("hang"):
                self._hang = asyncio.ensure_future(self._until_healed())
                return
        self._hearer.heard(frame)

    def say(self, frame: bytes) -> None:
        """Send a frame, or spoil it; what is late is late in order."""
        if self._cut and b'["answer"' in frame:
            self._gone.set()
        elif self._late or (b'["said"' in frame and self._spoiled.strikes("delay")):
            self._late.append(frame)
            if len(self._late) == 1:
                asyncio.get_running_loop().call_later(0.3, self._send_late)
        else:
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        for _ in range(2 if b'["said"' in frame and self._spoiled.strikes("duplicate") else 1):
            self._socket.say(frame)

    def _send_late(self) -> None:
        late, self._late = self._late, []
        for frame in late:
            self._send(frame)

    async def _until_healed(self) -> None:
        self._socket.hold()
        await self._spoiled.healed.wait()
        self._gone.set()


class LinkNet:
    """Be a network whose only way in are links; what is published by others comes over links too."""

    def __init__(self, loop: LoopThread, folder: Path, *, secret: bytes | None = None, unsent: int = UNSENT) -> None:
        self.loop = loop
        self._unsent = unsent
        self.clock, self.entropy = Clock(), Entropy()
        secrets = None if secret is None else lambda: [secret]
        self.network = LocalNetwork([KEYS, OTHER_KEYS], secrets=secrets, clock=self.clock, entropy=self.entropy)
        self._tokens = HubTokens(SigningKeys.fixed(b"s" * 32, self.clock), clock=self.clock, entropy=self.entropy)
        fields = {"owner": "o", "session": "", "key": "k"}
        self.bearer = Bearer(self._tokens.issue(Kind.CONSUMER, "o", fields, 3600))
        self._guard = Guard(self._tokens, self.clock, ())
        self._folder = folder
        self.port = 0
        self.links: list[Link] = []
        self.start()

    def start(self) -> None:
        """Serve, at the same port as before, with nothing kept."""
        self.loop.run(self._start())

    def stop(self) -> None:
        """End every link, and forget every message."""
        self.loop.run(self._stop())

    async def _stop(self) -> None:
        await self._server.shutdown()
        await asyncio.sleep(0.01)
        self.network.forget()

    async def _start(self) -> None:
        traffic = Traffic(self.clock, [])
        watch = Watch(Audit(self._folder, self.clock), self._guard)
        app = App([], hosts=[], entropy=self.entropy, traffic=traffic, watch=watch, links=self._serve_links)
        self.spoiled = Spoiled(app)
        config = HubConfig(state_dir=self._folder)
        self._server = Server(server_config(config, self.spoiled, self.port))  # type: ignore[arg-type]
        assert await self._server.bind() is None
        self.port = self._server.port

    def _serve_links(self, app: App) -> Links:
        life = self.entropy.name(4)
        return Links(carry=app.carry, network=self.network, guard=self._guard, life=life, unsent=self._unsent)

    def transport(self, name: str, grants: Any = None, at_once: AtOnce | None = None) -> HubLinkTransport:
        """Open a transport over a link of its own, once that is there."""
        link = Link(
            hub_url=lambda: f"http://127.0.0.1:{self.port}",
            bearing=self.bearer,
            near=True,
            clock=self.clock,
            entropy=self.entropy,
        )
        self.links.append(link)
        link.start()
        assert link.wait_there(30)
        return HubLinkTransport(
            link,
            lambda: _User(KEYS.subscribe_key, name),
            grants=grants or Tokens(),
            producer=f"{name}-{self.entropy.name(4)}",
            clock=self.clock,
            entropy=self.entropy,
            at_once=at_once,
        )

    def close(self) -> None:
        """End the links, then the server."""
        for link in self.links:
            link.close(Deadline(5))
        self.stop()


@contextmanager
def link_net(loop: LoopThread, folder: Path, **options: Any) -> Iterator[LinkNet]:
    """Give a network of links that ends with the block."""
    net = LinkNet(loop, folder, **options)
    try:
        yield net
    finally:
        net.close()


class Bare:
    """Speak the frames of a link by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._heard: list[list[Any]] = []

    def say(self, *operations: list[Any]) -> None:
        """Send one frame."""
        self.socket.send(json.dumps(operations).encode())

    def hear(self, word: str, timeout: float = 30.0) -> list[Any]:
        """Return the next operation of this word; others before it are dropped."""
        while True:
            while self._heard:
                operation = self._heard.pop(0)
                if operation[0] == word:
                    return operation
            self._heard += json.loads(self.socket.recv(timeout))

    def letters(self, count: int) -> list[Any]:
        """Return the next letters, at least so many."""
        letters: list[Any] = []
        while len(letters) < count:
            letters += self.hear("said")[2]
        return letters

    def closed_with(self) -> int:
        """Return the code with which the hub closes it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.socket.recv(30)
        assert self.socket.close_code is not None
        return self.socket.close_code


@contextmanager
def bare(hub: Caller, bearer: str | None = None, **headers: str) -> Iterator[Bare]:
    """Give a WebSocket to the hub's link, with a consumer's token where none is given."""
    token = hub.consumer()["accessToken"] if bearer is None else bearer
    address = hub.address.url.replace("http", "ws") + "/api/v1/link"
    with connect(
        address, additional_headers={"Authorization": f"Bearer {token}", **headers}, compression=None, proxy=None
    ) as socket:
        yield Bare(socket)
