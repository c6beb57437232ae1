"""The hub's end of links: a WebSocket that carries calls to the doors, and the messages of followed channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.link_following import Following
from blocks_worker.hub.link_socket import FRAMES, Saying
from blocks_worker.hub.network.access import Denied as DeniedError
from blocks_worker.hub.network.network import MOST_TOLD
from blocks_worker.hub.newest import Newest
from blocks_worker.hub.problems import BAD_REQUEST, FORBIDDEN, UNAUTHORIZED, RefusalError
from blocks_worker.protocol.chunks import SPOKEN, Spoken, read_spoken
from blocks_worker.protocol.codec import encode, inspect
from blocks_worker.protocol.link import (
    BEAT,
    LINK_PATH,
    Answer,
    Ask,
    Beat,
    Follow,
    Leave,
    Publish,
    Taken,
    Token,
    Where,
    from_client,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from blocks_worker.hub.api.calls import Scope
    from blocks_worker.hub.api.coming import Coming
    from blocks_worker.hub.app import Carried
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.link_socket import Socket
    from blocks_worker.hub.network.linked import Seat
    from blocks_worker.hub.network.network import LocalNetwork
    from blocks_worker.protocol.link import FromHub, ToHub

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Told = Callable[..., None]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    #: The same for one client, whose address is known.
    CarryHere = Callable[[str, str, "str | None", bytes], Carried]

_logger = logging.getLogger(__name__)

#: Calls of one link that are worked on at the same time; more wait to be read.
CALLS = 64
#: Bytes that may wait to be sent; a client that does not take them loses its link, and resumes with another one.
UNSENT = 80 * 1024 * 1024
#: Tokens, and followers, that one link may name.
TOKENS = 1024
FOLLOWERS = 256
#: Seconds for saying why a link is closed.
CLOSING = 1.0
#: Links at the same time.
LINKS = 4096

#: Why a link is closed, as codes of the protocol.
_OVER = 4401
_BAD_FRAME = 4400
_SLOW = 4408
_TOO_MANY = 1013
_FAULT = 1011
_LEFT = 1000
_OK = 200


class Carry(Protocol):
    """Begin to answer a call as if it had come over HTTP, from a client with this address."""

    def __call__(self, method: str, path: str, bearer: str | None, body: bytes, client: Any) -> Carried:
        """Return what comes of it."""


class Links:
    """Serve every link of a hub; everything here lives on the hub's loop."""

    def __init__(
        self,
        *,
        carry: Carry,
        network: LocalNetwork,
        guard: Guard,
        life: str,
        on_left: Callable[[Iterable[str]], None] = lambda _channels: None,
        unsent: int = UNSENT,
        on_refused: Told = lambda _code, **_told: None,
    ) -> None:
        self._on_refused = on_refused
        self._unsent = unsent
        self._on_left = on_left
        self._carry = carry
        self._network = network
        self._guard = guard
        self._life = life
        self._open: dict[_Link, None] = {}
        self._newest = Newest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, bearer: str | None) -> None:
        """Be one link, from its handshake to its end.

        Raises:
            RefusalError: 401, before anything was answered.
        """
        who, _ = self._guard.admitted(bearer)
        await receive()  # the handshake, which says nothing that the scope does not
        await send({"type": "websocket.accept"})
        if len(self._open) >= LINKS:
            await send({"type": "websocket.close", "code": _TOO_MANY, "reason": "too many links"})
            return
        carry, came = partial(self._carry, client=scope.get("client")), scope.get("client") or (None,)
        socket = scope["extensions"][FRAMES]
        refused = partial(self._on_refused, route=LINK_PATH, by=who.owner, key=who.key, **{"from": came[0]})
        link = _Link(carry, self._network, socket, refused, life=self._life, bearer=bearer or "", unsent=self._unsent)
        self._open[link] = None
        self._newest.came(who, link)
        try:
            await link.serve(receive, send)
        finally:
            del self._open[link]
            if self._newest.left(who, link):
                self._on_left(link.followed)

    def look(self) -> None:
        """End the links whose key was taken back, and the following of those whose grant is over."""
        for link in list(self._open):
            try:
                self._guard.admitted(link.bearer)
            except RefusalError as refusal:
                if refusal.problem.code == "TokenRevoked":
                    link.end(_OVER, "the key was revoked")
            link.look()


class _Link:
    """Be one link: what its client says is done in order, calls beside each other; what it is told leaves in order."""

    def __init__(
        self,
        carry: CarryHere,
        network: LocalNetwork,
        socket: Socket,
        refused: Told,
        *,
        life: str,
        bearer: str,
        unsent: int,
    ) -> None:
        self._refused = refused
        self._carry = carry
        self._network = network
        self._socket = socket
        self._life = life
        #: The newest token that let it in.
        self.bearer = bearer
        self._tokens: dict[int, str] = {}
        self._followers: dict[int, Following] = {}
        #: What was heard and waits for room, and the calls that are worked on.
        self._heard: deque[ToHub | Spoken] = deque()
        self._calls: set[Coming] = set()
        self._saying = Saying(socket, network.shared.rounds.at_end, unsent)
        self._end: tuple[int, str] | None = None
        self._over = asyncio.Event()
        #: What it followed when it ended.
        self.followed: list[str] = []

    async def serve(self, receive: Receive, send: Send) -> None:
        """Serve until either side ends it."""
        self._socket.hear(self)
        work = [asyncio.ensure_future(each) for each in (self._beat(), _gone(receive), self._over.wait())]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if self._end is not None:
                code, reason = self._end
                with contextlib.suppress(Exception):
                    # Who takes nothing does not take this either.
                    closing = send({"type": "websocket.close", "code": code, "reason": reason})
                    await asyncio.wait_for(closing, CLOSING)
        finally:
            self.end(_LEFT, "")
            for following in self._followers.values():
                self.followed += following.channels
                following.close()
            for call in self._calls:
                call.drop()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def look(self) -> None:
        """Have those stop whose grant is over."""
        for following in list(self._followers.values()):
            following.look()

    def end(self, code: int, reason: str) -> None:
        """Close the link; what waits to be sent is dropped."""
        self._end = self._end or (code, reason)
        self._saying.close()
        self._over.set()

    def say(self, operation: FromHub) -> None:
        """Send something, together with what else waits when it is its turn."""
        if self._end is None and not self._saying.say(_encoder.encode(operation)):
            self._cut()

    def say_encoded(self, operation: bytes) -> None:
        """Send an operation that is written already."""
        if self._end is None and not self._saying.say(operation):
            self._cut()

    def _cut(self) -> None:
        self.end(_SLOW, "what waits for you is more than is kept")

    def sent(self) -> None:
        """Send what waited for room."""
        self._saying.go_on()

    async def _beat(self) -> None:
        """Say something whenever nothing was said for long: one timer for that, and none a frame."""
        while True:
            await asyncio.sleep(BEAT - self._saying.silence())
            if self._saying.silence() >= BEAT:
                self.say(Beat())

    def heard(self, frame: bytes) -> None:
        """Do what a frame says, in order; what finds no room waits, and nothing more is read."""
        try:
            self._heard.extend([read_spoken(frame)] if frame.startswith(SPOKEN) else from_client(frame))
            self._go_on()
        except Exception as error:  # noqa: BLE001 - the top of one link: reported, the hub lives on
            self._failed(error)

    def _go_on(self) -> None:
        while self._heard and self._end is None:
            operation = self._heard[0]
            if isinstance(operation, Ask):
                if len(self._calls) >= CALLS:
                    self._socket.hold()
                    return
                self._ask(operation)
            elif isinstance(operation, Spoken):
                self._pass_on(operation)
            else:
                self._act(operation)
            self._heard.popleft()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, InvalidMessageError):
            _logger.warning("link_frame_refused", extra={"reason": error.reason})
            self._refused("BadFrame", status=_BAD_FRAME, reason=error.reason)
            self.end(_BAD_FRAME, error.reason)
        else:
            _logger.error("link_failed", exc_info=error)
            self.end(_FAULT, "the hub failed at what you said; its log tells more")

    def _ask(self, ask: Ask) -> None:
        bearer, body = self._tokens.get(ask.token), bytes(ask.body)
        call = self._carry(ask.method, ask.path, bearer, b"" if body == b"null" else body)
        self._calls.add(call.coming)
        call.coming.then(partial(self._called, ask.id, bearer, call))

    def _called(self, number: int, bearer: str | None, call: Carried) -> None:
        self._calls.discard(call.coming)
        answer = call.answer()
        if bearer is not None and answer.status != UNAUTHORIZED:
            self.bearer = bearer
        retry_after = dict(answer.headers).get("retry-after") if answer.headers else None
        self._answer(number, answer.status, answer.body, retry_after)
        if self._heard:
            self._read_on()

    def _read_on(self) -> None:
        """Do what waited for room, and read again once nothing does."""
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - as where it is heard
            self._failed(error)
        if not self._heard:
            self._socket.go_on()

    def _act(self, operation: ToHub) -> None:
        match operation:
            case Token():
                if len(self._tokens) >= TOKENS:
                    raise InvalidMessageError("tokens", "too many tokens")
                self._tokens[operation.number] = operation.token
            case Publish():
                self._publish(operation)
            case Follow():
                self._follow(operation)
            case Taken():
                following = self._followers.get(operation.follower)
                if following is not None:
                    following.taken(operation)
            case Leave():
                left = self._followers.pop(operation.follower, None)
                if left is not None:
                    left.close()
            case Where():
                self._answer(operation.id, _OK, b"%d" % self._network.shared.timeline.draw())

    def _publish(self, said: Publish) -> None:
        payload = bytes(said.payload)

        def publish(seat: Seat) -> int:
            inspect(payload)
            return seat.publish(said.channel, payload)

        self._put(said, publish)

    def _pass_on(self, said: Spoken) -> None:
        """Publish bytes of a stream as they came, once they are found whole."""
        self._put(said, lambda seat: seat.pass_on(said.channel, said.bundle))

    def _put(self, said: Publish | Spoken, publish: Callable[[Seat], int]) -> None:
        seat = self._seat(said.key, said.user, said.grant)
        try:
            position = publish(seat)
        except DeniedError as denied:
            self.denied("publish", said.key, said.user, [said.channel], denied.message)
            self._refuse(said.id, RefusalError(FORBIDDEN, "Forbidden", denied.message))
        except InvalidMessageError as error:
            self._refuse(said.id, RefusalError(BAD_REQUEST, "InvalidInput", str(error)))
        else:
            if said.id:
                self._answer(said.id, _OK, b"%d" % position)

    def _follow(self, wish: Follow) -> None:
        following = self._followers.get(wish.follower)
        if following is None:
            if len(self._followers) >= FOLLOWERS:
                raise InvalidMessageError("followers", "too many followers")
            following = self._followers[wish.follower] = Following(self, wish.follower)
        following.follow(self._seat(wish.key, wish.user, wish.grant), wish, self._life)

    def denied(self, act: str, key: str, user: str, channels: Sequence[str], why: str) -> None:
        """Have it written down that a channel was refused, as the network does of what it refuses itself."""
        told = {"act": act, "network": key, "user": user, "channels": list(channels[:MOST_TOLD]), "reason": why}
        self._refused("ChannelForbidden", status=FORBIDDEN, **told)

    def _seat(self, key: str, user: str, grant: int) -> Seat:
        return self._network.seat(key, user, self._tokens.get(grant))

    def _answer(self, number: int, status: int, body: bytes, retry_after: str | None = None) -> None:
        self.say(Answer(number, status, msgspec.Raw(body or b"null"), retry_after))

    def _refuse(self, number: int, refusal: RefusalError) -> None:
        self._answer(number, refusal.status, encode(refusal.problem))


async def _gone(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


_encoder = msgspec.json.Encoder()
