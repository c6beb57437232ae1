"""Readers that live on a loop: the local network's HTTP, the hub's end of a link, and the client's end of one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fuzzing.samples import LINK_FROM_HUB, LINK_TO_HUB
from fuzzing.targets import Target
from localnet import KEYS
from pubnub_pair import Tokens as Grants

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.app import App
from blocks_worker.hub.audit import Audit
from blocks_worker.hub.auth.guard import Guard
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import Kind, Tokens
from blocks_worker.hub.link import Links
from blocks_worker.hub.link_socket import FRAMES
from blocks_worker.hub.network.network import LocalNetwork
from blocks_worker.hub.network.reading import RequestReader
from blocks_worker.hub.network.wire import Refused, Reply
from blocks_worker.hub.traffic import Traffic
from blocks_worker.hub.watch import Watch
from blocks_worker.protocol.link import Answer as LinkAnswer
from blocks_worker.protocol.link import Beat, from_hub
from blocks_worker.transports.hublink.link import Link
from blocks_worker.transports.hublink.subscription import HubLinkSubscription

if TYPE_CHECKING:
    from pathlib import Path

    from blocks_worker.hub.link_socket import Hearer

#: Requests after which the network is made anew, so that what was published is not what is measured.
FRESH = 5000
#: Pieces of which an HTTP request is made.
WORDS = [
    *(b"\r\n", b"\r\n\r\n", b"GET ", b"POST ", b" HTTP/1.1", b" HTTP/1.0", b"Host: localhost\r\n", b"Content-Length: "),
    *(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"5\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
    *(
        b"Content-Encoding: gzip\r\n",
        b"?uuid=",
        b"&auth=",
        b"%2f",
        b"%00",
        b"%ff",
        b"/0/",
        b"../",
        b"ch,ch",
        b"-pnpres",
    ),
    *(b"&tt=", b"&heartbeat=", b"&state=%7B%7D", b"&meta=", b"&start=", b"&end=", b"&max=", b"&reverse=true", b"&ttl="),
]
_PATHS = [
    "/publish/pub-test/sub-test/0/ch/0/%7B%22a%22%3A1%7D?uuid=u&meta=%7B%7D&ttl=1&store=1",
    "/signal/pub-test/sub-test/0/ch/0/%22x%22?uuid=u",
    "/v2/subscribe/sub-test/ch,other/0?uuid=u&tt=0&heartbeat=20&state=%7B%22ch%22%3A%7B%7D%7D&filter-expr=a",
    "/v2/subscribe/sub-test/ch/0?uuid=u&tt=17000000000000000&tr=4",
    "/time/0",
    "/v3/history/sub-key/sub-test/channel/ch,other?start=1&end=9&max=25&include_meta=true",
    "/v2/history/sub-key/sub-test/channel/ch?count=10&reverse=true&include_token=true",
    "/v3/history/sub-key/sub-test/message-counts/ch,other?timetoken=1&channelsTimetoken=1,2",
    "/v2/presence/sub-key/sub-test/channel/ch?uuid=u&state=1&disable_uuids=0",
    "/v2/presence/sub-key/sub-test/channel/ch/heartbeat?uuid=u&heartbeat=9&state=%7B%7D",
    "/v2/presence/sub-key/sub-test/channel/ch/leave?uuid=u",
    "/v2/presence/sub-key/sub-test/channel/ch/uuid/u/data?state=%7B%7D",
    "/v2/presence/sub-key/sub-test/uuid/u",
]
_HEAD = "Host: localhost\r\nUser-Agent: x\r\nConnection: keep-alive\r\n"


class CrashedError(Exception):
    """Say that a part caught what it should not have met: a fault of its own."""


def networked(folder: Path) -> tuple[list[Target], asyncio.AbstractEventLoop]:
    """Return the readers that need a loop, and the loop that who is done has to close."""
    loop = asyncio.new_event_loop()
    network, hub, client = _Network(loop), _HubEnd(loop, folder), _ClientEnd()
    requests = [f"GET {path} HTTP/1.1\r\n{_HEAD}\r\n".encode() for path in _PATHS]
    body = b'{"a":[1,2]}'
    post = f"POST /publish/pub-test/sub-test/0/ch/0?uuid=u HTTP/1.1\r\n{_HEAD}"
    requests += [f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body]
    requests += [f"{post}Transfer-Encoding: chunked\r\n\r\nb\r\n".encode() + body + b"\r\n0\r\n\r\n"]
    requests += [f"DELETE /v3/history/sub-key/sub-test/channel/ch HTTP/1.1\r\n{_HEAD}\r\n".encode(), requests[0] * 2]
    return [
        Target("network: HTTP", network.feed, requests, (Refused,), WORDS),
        Target("network: published", network.publish, [body, b'{"v":1,"from":"p","n":1,"b":[{}]}'], (Refused,)),
        Target("link: the hub's end", hub.feed, LINK_TO_HUB),
        Target("link: the client's end", client.feed, LINK_FROM_HUB),
    ], loop


class _Network:
    """Feed the reader of a connection, and the network with every request that it gives."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fed = 0
        self._network = self._fresh()

    def feed(self, data: bytes) -> None:
        self._loop.run_until_complete(self._feed(data))

    def publish(self, data: bytes) -> None:
        head = f"POST /publish/pub-test/sub-test/0/ch/0?uuid=u HTTP/1.1\r\n{_HEAD}Content-Length: {len(data)}\r\n\r\n"
        self.feed(head.encode() + data)

    async def _feed(self, data: bytes) -> None:
        self._fed += 1
        if self._fed % FRESH == 0:
            self._network = self._fresh()
        reader = RequestReader()
        reader.feed(data)
        while (request := reader.next()) is not None:
            answer = self._network.handle(request)
            if not isinstance(answer, Reply):
                answer.cancel()
            elif answer.status >= 500:
                raise CrashedError(f"the network answered {answer.status}")

    def _fresh(self) -> LocalNetwork:
        return LocalNetwork([KEYS], secrets=None, clock=Clock(), entropy=Entropy())


class _HubEnd:
    """Be a client whose second frame is fuzzed; the first one names a good token and follows a channel."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self._loop = loop
        clock, entropy = Clock(), Entropy()
        tokens = Tokens(SigningKeys.fixed(b"s" * 32, clock), clock=clock, entropy=entropy)
        self._bearer = tokens.issue(Kind.CONSUMER, "o", {"owner": "o", "session": "", "key": "k"}, 3600)
        guard = Guard(tokens, clock, ())
        watch = Watch(Audit(folder, clock), guard)
        app = App([], hosts=[], entropy=entropy, traffic=Traffic(clock, []), watch=watch)
        network = LocalNetwork([KEYS], secrets=None, clock=clock, entropy=entropy)
        self._links = Links(carry=app.carry, network=network, guard=guard, life="life")
        follow = ["follow", 1, 1, KEYS.subscribe_key, "u", 1, "life", {"ch": 0}]
        self._first = json.dumps([["token", 1, self._bearer], follow]).encode()

    def feed(self, data: bytes) -> None:
        code = self._loop.run_until_complete(self._serve(data))
        if code == 1011:
            raise CrashedError("the link was ended by a fault of the hub")
        if code is not None:
            raise InvalidMessageError("link", f"closed with {code}")

    async def _serve(self, data: bytes) -> int | None:
        said: list[dict[str, Any]] = []
        news = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])
        socket = _Socket([self._first, data])

        async def receive() -> dict[str, Any]:
            for _ in range(4):  # calls that were begun get their turn
                await asyncio.sleep(0)
            return next(news)

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        scope = {"type": "websocket", "client": ("127.0.0.1", 1), "extensions": {FRAMES: socket}}
        await self._links(scope, receive, send, self._bearer)
        closed = [each["code"] for each in said if each["type"] == "websocket.close"]
        return closed[0] if closed else None


class _Socket:
    """Give frames to whoever hears, and send nothing."""

    is_full = False

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames

    def hear(self, hearer: Hearer) -> None:
        for frame in self._frames:
            hearer.heard(frame)

    def say(self, frame: bytes) -> None:
        pass

    def hold(self) -> None:
        pass

    def go_on(self) -> None:
        pass


class _User:
    subscribe_key, user_id = KEYS.subscribe_key, "u"


class _Bearer:
    def access_token(self) -> str:
        return "t"

    def on_unauthorized(self, refused: str) -> bool:
        return refused == ""


class _ClientEnd:
    """Give what a hub says to a subscription, as the thread of a link does; the link itself has no connection."""

    def __init__(self) -> None:
        self._fed = 0
        self._fresh()

    def _fresh(self) -> None:
        clock, entropy = Clock(), Entropy()
        self._link = Link(
            hub_url=lambda: "http://127.0.0.1:9", bearing=_Bearer(), near=True, clock=clock, entropy=entropy
        )
        self._subscription = HubLinkSubscription(
            self._link,
            _User,  # type: ignore[arg-type]  # its attributes are those of the class
            grants=Grants(),
            places={"ch": 0},
            clock=clock,
            entropy=entropy,
            counters={},
        )

    def feed(self, data: bytes) -> None:
        self._fed += 1
        if self._fed % FRESH == 0:
            self._fresh()
        for operation in from_hub(data):
            if isinstance(operation, (LinkAnswer, Beat)):
                continue
            # To be denied has it ask for another grant, on a thread of its own: that is no reading.
            self._subscription._renewing = True
            self._subscription.hear(operation)
        if not self._fed % 64:
            self._subscription.receive(0)
