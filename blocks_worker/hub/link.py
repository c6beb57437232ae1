"""The hub's end of links: a WebSocket that carries calls to the doors, and the messages of followed channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.link_following import Following
from blocks_worker.hub.network.access import Denied as DeniedError
from blocks_worker.hub.network.network import MOST_TOLD
from blocks_worker.hub.newest import Newest
from blocks_worker.hub.problems import BAD_REQUEST, FORBIDDEN, UNAUTHORIZED, RefusalError
from blocks_worker.protocol.chunks import SPOKEN, framed, read_spoken
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

    from blocks_worker.hub.api.calls import Answer as Answered
    from blocks_worker.hub.api.calls import Scope
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.network.linked import Seat
    from blocks_worker.hub.network.network import LocalNetwork
    from blocks_worker.protocol.chunks import Spoken
    from blocks_worker.protocol.link import FromHub, ToHub

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Told = Callable[..., None]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    #: The same for one client, whose address is known.
    CarryHere = Callable[[str, str, "str | None", bytes], Awaitable[Answered]]

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
_OK = 200


class Carry(Protocol):
    """Answer a call as if it had come over HTTP, from a client with this address."""

    async def __call__(self, method: str, path: str, bearer: str | None, body: bytes, client: Any) -> Answered:
        """Return what the door answers."""


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
        refused = partial(self._on_refused, route=LINK_PATH, by=who.owner, key=who.key, **{"from": came[0]})
        link = _Link(carry, self._network, send, refused, life=self._life, bearer=bearer or "", unsent=self._unsent)
        self._open[link] = None
        self._newest.came(who, link)
        try:
            await link.serve(receive)
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
        self, carry: CarryHere, network: LocalNetwork, send: Send, refused: Told, *, life: str, bearer: str, unsent: int
    ) -> None:
        self._refused = refused
        self._most_unsent = unsent
        self._carry = carry
        self._network = network
        self._send = send
        self._life = life
        #: The newest token that let it in.
        self.bearer = bearer
        self._tokens: dict[int, str] = {}
        self._followers: dict[int, Following] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(CALLS)
        self._waiting: list[bytes] = []
        self._unsent = 0
        self._news = asyncio.Event()
        #: When it sent something last, by the loop's clock.
        self._spoke = 0.0
        self._end: tuple[int, str] | None = None
        self._over = asyncio.Event()
        #: What it followed when it ended.
        self.followed: list[str] = []

    async def serve(self, receive: Receive) -> None:
        """Serve until either side ends it."""
        parts = (self._speak(), self._beat(), self._listen(receive), self._over.wait())
        work = [asyncio.ensure_future(each) for each in parts]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if self._end is not None:
                code, reason = self._end
                with contextlib.suppress(Exception):
                    # Who takes nothing does not take this either.
                    closing = self._send({"type": "websocket.close", "code": code, "reason": reason})
                    await asyncio.wait_for(closing, CLOSING)
        finally:
            for following in self._followers.values():
                self.followed += following.channels
                following.close()
            for task in (*work, *self._calls):
                task.cancel()
            await asyncio.gather(*work, *self._calls, return_exceptions=True)

    def look(self) -> None:
        """Have those stop whose grant is over."""
        for following in list(self._followers.values()):
            following.look()

    def end(self, code: int, reason: str) -> None:
        """Close the link; what waits to be sent is dropped."""
        self._end = self._end or (code, reason)
        self._over.set()

    def say(self, operation: FromHub) -> None:
        """Send something, together with what else waits when it is its turn."""
        self.say_encoded(_encoder.encode(operation))

    def say_encoded(self, operation: bytes) -> None:
        """Send an operation that is written already."""
        if self._end is not None:
            return
        self._waiting.append(operation)
        self._unsent += len(operation)
        self._news.set()
        if self._unsent > self._most_unsent:
            self._waiting.clear()
            self.end(_SLOW, "what waits for you is more than is kept")

    async def _speak(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            waiting, self._waiting, self._unsent = self._waiting, [], 0
            for frame in framed(waiting):
                await self._send({"type": "websocket.send", "bytes": frame})
            self._spoke = asyncio.get_running_loop().time()

    async def _beat(self) -> None:
        """Say something whenever nothing was said for long: one timer for that, and none a frame."""
        loop = asyncio.get_running_loop()
        self._spoke = loop.time()
        while True:
            await asyncio.sleep(max(0.0, self._spoke + BEAT - loop.time()))
            if loop.time() >= self._spoke + BEAT:
                self._spoke = loop.time()
                self.say(Beat())

    async def _listen(self, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect" or self._end is not None:
                return
            try:
                await self._do(message.get("bytes") or b"")
            except InvalidMessageError as error:
                _logger.warning("link_frame_refused", extra={"reason": error.reason})
                self._refused("BadFrame", status=_BAD_FRAME, reason=error.reason)
                self.end(_BAD_FRAME, error.reason)
                return
            except Exception:  # the top of one link: reported, the hub lives on
                _logger.exception("link_failed")
                self.end(_FAULT, "the hub failed at what you said; its log tells more")
                return

    async def _do(self, frame: bytes) -> None:
        if frame.startswith(SPOKEN):
            self._pass_on(read_spoken(frame))
            return
        for operation in from_client(frame):
            if isinstance(operation, Ask):
                await self._room.acquire()
                task = asyncio.ensure_future(self._call(operation, self._tokens.get(operation.token)))
                self._calls.add(task)
                task.add_done_callback(self._called)
            else:
                self._act(operation)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._room.release()

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

    async def _call(self, ask: Ask, bearer: str | None) -> None:
        body = bytes(ask.body)
        answer = await self._carry(ask.method, ask.path, bearer, b"" if body == b"null" else body)
        if bearer is not None and answer.status != UNAUTHORIZED:
            self.bearer = bearer
        retry_after = next((value for name, value in answer.headers if name == "retry-after"), None)
        self._answer(ask.id, answer.status, answer.body, retry_after)

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


_encoder = msgspec.json.Encoder()
