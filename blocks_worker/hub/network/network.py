"""The local network: a loopback stand-in for PubNub that the real SDK talks to.

It answers the REST subset which the official SDKs use, for development and tests: one process, memory
only, cleartext. It promises no delivery; the hub is the ledger.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING

from blocks_worker.concurrency import SteadyClock
from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.network import history
from blocks_worker.hub.network.access import AccessManager, Denied
from blocks_worker.hub.network.call import USER_ID_LIMIT, Call, called
from blocks_worker.hub.network.channels import Message, Timeline
from blocks_worker.hub.network.control import PATH, Control
from blocks_worker.hub.network.crowd import Crowd
from blocks_worker.hub.network.faults import Faults
from blocks_worker.hub.network.http import Answer, Connection
from blocks_worker.hub.network.linked import Seat
from blocks_worker.hub.network.presence_calls import presence
from blocks_worker.hub.network.publishing import publish, signal
from blocks_worker.hub.network.realm import Realm, Shared
from blocks_worker.hub.network.settings import Keyset, NetworkSettings
from blocks_worker.hub.network.subscribing import subscribe
from blocks_worker.hub.network.wire import Refused, Reply, Request, ok, query_of, sentence
from blocks_worker.processes import keep_from_children

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from blocks_worker.concurrency import Clock, Entropy

__all__ = ["Keyset", "LocalNetwork", "NetworkSettings"]

_logger = logging.getLogger(__name__)

REGIONS = 99
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
#: Turns of the loop in which a connection that was accepted is made.
_TURNS = 5
#: Seconds between two looks for what is too old.
SWEEP = 1.0
#: Ports to try until one is free on both loopback addresses.
PORT_TRIES = 8
_PREFLIGHT = (
    b"Access-Control-Allow-Methods: GET, POST, PATCH, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Content-Encoding, Accept, If-Match\r\n"
    b"Access-Control-Max-Age: 86400\r\n"
    b"Access-Control-Allow-Private-Network: true\r\n"
)
#: Channels of a refused request that are told to whoever writes refusals down.
MOST_TOLD = 8
#: What the system says where there is no IPv6.
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _unheard(_code: str, **_told: object) -> None:
    """Be told of a refusal where nobody writes them down."""


class LocalNetwork:
    """Serve publish/subscribe on loopback from the loop it was started on.

    It owns its listening sockets, its connections and all that is kept for each keyset; `stop` ends them.
    Everything but the constructor belongs to the loop's thread.
    """

    def __init__(
        self,
        keysets: Sequence[Keyset],
        *,
        secret: bytes | None,
        clock: Clock,
        entropy: Entropy,
        settings: NetworkSettings | None = None,
        revoked: Container[str] = (),
        on_denied: Callable[..., None] = _unheard,
    ) -> None:
        self._on_denied = on_denied
        self._keysets = tuple(keysets)
        self._entropy = entropy
        self.shared = Shared(settings or NetworkSettings(), clock, Timeline(clock), self._draw_region(0))
        steady = SteadyClock(clock)
        self._access = None if secret is None else AccessManager(secret, lambda: steady.now_ms() // 1000, revoked)
        self._realms = self._fresh_realms()
        self._servers: list[asyncio.Server] = []
        self._place = ("127.0.0.1", 0)
        self.connections: set[Connection] = set()
        self.crowd = Crowd("network", self.settings.address_connections)
        self._sweep: asyncio.TimerHandle | None = None
        #: What tests have go wrong here.
        self.faults = Faults(self)
        self._control = Control(self.faults)

    @property
    def settings(self) -> NetworkSettings:
        """Return the settings in force; setting them takes effect with the next request."""
        return self.shared.settings

    @settings.setter
    def settings(self, settings: NetworkSettings) -> None:
        self.shared.settings = settings

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, on both loopback addresses for a loopback host, and return the port.

        Raises:
            OSError: the port is in use.
            ConfigurationError: anybody could reach this host, and access control is off.
        """
        if host not in LOOPBACK and self._access is None:
            raise ConfigurationError(f"the network listens on {host!r} only with access control: give it a secret")
        self.move()
        bound = await self._listen(host, port)
        self._place = host, bound
        keep_from_children(self)
        self._tick()
        return bound

    async def stop(self) -> None:
        """Close everything at once, held polls too, and forget every message."""
        if self._sweep is not None:
            self._sweep.cancel()
        await self.refuse()
        self.forget()

    async def refuse(self) -> None:
        """Close the port and every connection, held polls too; what was published is kept."""
        servers, self._servers = self._servers, []
        await _accept_no_more(servers)
        for server in servers:
            server.close()
        self.cut()
        for server in servers:
            await server.wait_closed()
        await asyncio.sleep(0)  # the aborted connections hear of their end on the next turn

    async def accept(self) -> None:
        """Listen again where `start` did, with the same region: nothing was lost."""
        await self._listen(*self._place)

    def leave_to_parent(self) -> Iterator[int]:
        """Give up the sockets it listens on, and those of its connections, to whoever forked this process."""
        for server in self._servers:
            yield from [each.fileno() for each in server.sockets]
        for connection in self.connections:
            yield connection.descriptor()

    def cut(self) -> None:
        """End every connection at once."""
        for connection in list(self.connections):
            connection.abort()

    def forget(self) -> None:
        """Forget every message, and who is present."""
        self._realms = self._fresh_realms()

    def move(self) -> None:
        """Be another region from now on: it tells clients that messages may be gone."""
        self.shared.region = self._draw_region(self.shared.region)

    @property
    def first_realm(self) -> Realm:
        """The realm of the first keyset."""
        return self._realms[self._keysets[0].subscribe_key]

    def publish(
        self, subscribe_key: str, channel: str, payload: bytes, *, store: bool = True, publisher: str = "hub"
    ) -> int:
        """Publish from inside, without HTTP; `payload` is sound JSON. Return the timetoken."""
        timetoken = self.shared.timeline.draw()
        message = Message(timetoken, channel, payload, self.shared.clock.monotonic(), publisher=publisher)
        self._realms[subscribe_key].publish(message, store=store)
        return timetoken

    def seat(self, subscribe_key: str, user: str, grant: str | None) -> Seat:
        """Return what somebody on a link may do; an unknown keyset is refused when it is used."""
        return Seat(self._realms.get(subscribe_key), self._access, user, grant)

    def is_followed(self, subscribe_key: str, channel: str) -> bool:
        """Tell whether somebody on a link is told at once what is published on this channel; any thread may ask."""
        return self._realms[subscribe_key].is_followed(channel)

    @property
    def listens(self) -> bool:
        """Whether it takes connections."""
        return bool(self._servers)

    def held_polls(self) -> int:
        """Return how many polls wait for a message."""
        return sum(len(realm.polls.waiting()) for realm in self._realms.values())

    def handle(self, request: Request) -> Answer:
        """Answer one request; everything that comes over a connection passes here."""
        if self.faults.active and request.path != PATH:
            return self.faults.answer(request, lambda: self._served(request))
        return self._served(request)

    def _served(self, request: Request) -> Answer:
        try:
            self._check_host(request.host)
            if request.method == "OPTIONS":
                return Reply(204, b"", _PREFLIGHT)
            return self._route(request)
        except Refused as refusal:
            return refusal.reply
        except Exception:  # the top of one request: report it, the server lives on
            _logger.exception("network_request_failed", extra={"method": request.method})
            return sentence(500, "Internal Server Error", service="Balancer")

    def _route(self, request: Request) -> Answer:
        answer: Answer | None = None
        match [request.method, *request.path[1:].split("/")]:
            case ["GET" | "POST", "publish", publish_key, key, _, channel, _, *rest]:
                answer = self._allowed(request, key, lambda call: publish(call, publish_key, channel, rest))
            case ["GET", "v2", "subscribe", key, channels, _]:
                answer = self._allowed(request, key, lambda call: subscribe(call, channels))
            case ["GET", "time", _]:
                answer = ok([self.shared.timeline.draw()])
            case ["GET", "signal", publish_key, key, _, channel, _, *rest]:
                answer = self._allowed(request, key, lambda call: signal(call, publish_key, channel, rest))
            case ["GET", "v2", "presence", "sub-key" | "sub_key", key, *rest]:
                answer = self._presence(request, key, rest)
            case [method, "v2" | "v3" as version, "history", "sub-key", key, kind, channels]:
                answer = self._history(request, key, f"{method} {version} {kind}", channels)
            case ["POST", "_ctl"] if self.settings.testing:
                answer = self._control.obey(request)
        return answer or sentence(404, "Not Found", service="Balancer")

    def _allowed(self, request: Request, key: str, act: Callable[[Call], Answer]) -> Answer:
        """Do it for the realm of this key, or say that it is not allowed."""
        try:
            return act(self._call(request, key))
        except Denied as denied:
            self._note(request, key, denied)
            payload = None if denied.channels is None else {"channels": list(denied.channels)}
            return sentence(403, denied.message, payload=payload)

    def _presence(self, request: Request, key: str, rest: Sequence[str]) -> Answer:
        missing = sentence(404, "Not Found", service="Presence")
        return self._allowed(request, key, lambda call: presence(call, rest) or missing)

    def _history(self, request: Request, key: str, verb: str, channels: str) -> Answer | None:
        act = _HISTORY.get(verb)
        if act is None:
            return None
        try:
            return act(self._call(request, key), channels)
        except Denied as denied:
            self._note(request, key, denied)
            return history.refused(denied.message)

    def _note(self, request: Request, key: str, denied: Denied) -> None:
        """Tell of a refusal. Channels are named, for none is a secret; the user id is what the caller says he is."""
        user_id = query_of(request.query).get("uuid", "")[:USER_ID_LIMIT]
        kind = request.path[1:].partition("/")[0]
        told = {
            "network": key,
            "user": user_id,
            "act": kind,
            "channels": denied.channels and denied.channels[:MOST_TOLD],
        }
        self._on_denied("ChannelForbidden", reason=denied.message, **told)

    def _call(self, request: Request, key: str) -> Call:
        realm = self._realms.get(key)
        if realm is None:
            raise Refused(sentence(400, "Invalid Subscribe Key"))
        return called(realm, request, self._access)

    def _check_host(self, host: str) -> None:
        """Refuse names that are not ours: a page of a foreign site may have its name point to this machine."""
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name not in LOOPBACK and name not in self.shared.settings.hosts:
            raise Refused(sentence(403, "This name is not served here", service="Balancer"))

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        for realm in self._realms.values():
            realm.expire()
        for connection in list(self.connections):
            connection.expire(loop.time())
        self._sweep = loop.call_later(SWEEP, self._tick)

    async def _listen(self, host: str, port: int) -> int:
        """Bind; a port of the system's choice has to be free on both loopback addresses."""
        tries = 1 if port or host not in LOOPBACK else PORT_TRIES
        while True:
            tries -= 1
            first = await self._server("127.0.0.1" if host in LOOPBACK else host, port)
            bound: int = first.sockets[0].getsockname()[1]
            try:
                second = [await self._server("::1", bound)] if host in LOOPBACK else []
            except OSError as error:
                if error.errno not in _NO_IPV6:
                    first.close()
                    if tries:
                        continue
                    raise
                second = []
            self._servers = [first, *second]
            return bound

    async def _server(self, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._connection, host, port, backlog=512)

    def _connection(self) -> Connection:
        return Connection(self.handle, self.connections, most=self.settings.connections, crowd=self.crowd)

    def _fresh_realms(self) -> dict[str, Realm]:
        return {keyset.subscribe_key: Realm(keyset, self.shared) for keyset in self._keysets}

    def _draw_region(self, last: int) -> int:
        """Return another small number than the last start had: it tells clients that messages are gone."""
        region = 1 + self._entropy.below(REGIONS)
        return region if region != last else region % REGIONS + 1


async def _accept_no_more(servers: Sequence[asyncio.Server]) -> None:
    """Let those in who were accepted already: asyncio drops, and never closes, whom it meets behind a server's end."""
    loop = asyncio.get_running_loop()
    for server in servers:
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)


_HISTORY = {
    "GET v3 channel": history.fetch,
    "GET v2 channel": history.fetch_v2,
    "GET v3 message-counts": history.counts,
    "DELETE v3 channel": history.delete,
}
