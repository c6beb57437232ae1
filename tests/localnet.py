"""A local network on a loop of its own, and two kinds of client for it: the SDK, and bare HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub
from support import LoopThread, wait_until

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.hub.network.network import Keyset, LocalNetwork, NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = Keyset("pub-test", "sub-test")
OTHER_KEYS = Keyset("pub-other", "sub-other")


@dataclass
class Answered:
    """Be what came back over bare HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Held:
    """Be a request whose answer is awaited on another thread."""

    def __init__(self, ask: Callable[[], Answered]) -> None:
        self._answer: list[Answered] = []
        self._thread = threading.Thread(target=lambda: self._answer.append(ask()))
        self._thread.start()

    def result(self, timeout: float = 10.0) -> Answered:
        """Return the answer when it came."""
        self._thread.join(timeout)
        return self._answer[0]


class Net:
    """Drive one running network."""

    def __init__(self, loop: LoopThread, network: LocalNetwork) -> None:
        self.loop = loop
        self.network = network
        self.port = loop.run(network.start())

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **query: Any) -> Answered:
        """Send one request on a connection of its own."""
        return self.raw_ask(f"{path}?{urlencode(query, quote_via=quote)}" if query else path, method=method, body=body)

    def raw_ask(
        self, target: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answered:
        """Send one request whose address and headers are exactly these."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answered(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, rest: str, **query: Any) -> Answered:
        """Send one request below a path in which {sub} stands for the subscribe key."""
        return self.ask(rest.replace("{sub}", KEYS.subscribe_key).replace("{pub}", KEYS.publish_key), **query)

    def publish(self, channel: str, message: Any, **query: Any) -> int:
        """Publish over HTTP and return the timetoken."""
        path = f"/publish/{KEYS.publish_key}/{KEYS.subscribe_key}/0/{quote(channel, safe='')}/0"
        answered = self.ask(path, method="POST", body=json.dumps(message).encode(), **query)
        assert answered.status == 200, answered
        return int(answered.json[2])

    def poll(self, channels: str, tt: int | str = 0, **query: Any) -> Any:
        """Poll once and return the decoded answer; `channels` stands in the address as it is."""
        return self.ask(f"/v2/subscribe/{KEYS.subscribe_key}/{channels}/0", tt=tt, **query).json

    def held(self, channels: str, tt: int, **query: Any) -> Held:
        """Poll on another thread, and return once the network holds the poll."""
        before = self.waiting()
        held = Held(lambda: self.ask(f"/v2/subscribe/{KEYS.subscribe_key}/{channels}/0", tt=tt, **query))
        wait_until(lambda: self.waiting() > before, what="the poll is held")
        return held

    def waiting(self) -> int:
        """Return how many polls are held."""
        return self.loop.call(self.network.held_polls)

    def cursor(self, channels: str = "any") -> int:
        """Return the timetoken of a handshake."""
        return int(self.poll(channels)["t"]["t"])

    def settings(self, **changed: Any) -> None:
        """Change settings of the running network."""
        self.loop.call(setattr, self.network, "settings", replace(self.network.settings, **changed))


class NetworkMaker:
    """Start networks on one loop, and stop them all at the end."""

    def __init__(self, loop: LoopThread) -> None:
        self.loop = loop
        self.nets: list[Net] = []

    def __call__(self, *, secret: bytes | None = None, clock: Clock | None = None, **settings: Any) -> Net:
        """Start a network with these settings."""
        network = LocalNetwork(
            [KEYS, OTHER_KEYS],
            secrets=None if secret is None else lambda: [secret],
            clock=clock or Clock(),
            entropy=Entropy(),
            settings=NetworkSettings(**{"hold": 5.0, "presence_delay": 0.02, **settings}),
        )
        self.nets.append(Net(self.loop, network))
        return self.nets[-1]

    def stop(self) -> None:
        """Stop them."""
        for net in self.nets:
            self.loop.run(net.network.stop())


@contextmanager
def networks() -> Iterator[NetworkMaker]:
    """Give a function that starts networks; they end with the block."""
    with LoopThread("network") as loop:
        maker = NetworkMaker(loop)
        try:
            yield maker
        finally:
            maker.stop()


@contextmanager
def sdk(net: Net, *, user_id: str = "user-1", token: str | None = None, subscribe: bool = True) -> Iterator[PubNub]:
    """Give the real SDK's client of a network."""
    config = PNConfiguration()
    config.publish_key = KEYS.publish_key
    config.subscribe_key = KEYS.subscribe_key
    config.uuid = user_id
    config.origin = f"127.0.0.1:{net.port}"
    config.ssl = False
    config.daemon = True
    config.enable_subscribe = subscribe
    config.disable_config_locking = False  # what is locked gives no warning about being mutable
    config.enable_presence_heartbeat = False
    config.suppress_leave_events = True
    config.connect_timeout = 5
    config.non_subscribe_request_timeout = 10
    config.subscribe_request_timeout = 30
    client = PubNub(config)
    if token:
        client.set_token(token)
    try:
        yield client
    finally:
        with suppress(Exception):  # a client that does not subscribe complains after it has closed everything
            client.stop()
