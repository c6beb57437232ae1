"""The faults that tests have the local network play; without any, it costs one look at a flag."""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.network.channels import Message
from blocks_worker.hub.network.spoiling import Spoiling
from blocks_worker.hub.network.wire import Reply, query_of, sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.network.http import Answer
    from blocks_worker.hub.network.network import LocalNetwork
    from blocks_worker.hub.network.realm import Realm
    from blocks_worker.hub.network.wire import Request

#: What may happen to a message on its way to the polls.
DELIVERIES = frozenset(("duplicate", "reorder", "swallow"))
#: Refusals that are remembered.
REMEMBERED = 1024


@dataclass
class Fault:
    """Be one fault: what it is for, how often it comes; `count` None is until it is removed.

    `match` is searched in "METHOD /raw/path" of a request, or in the channel of a message.
    """

    match: re.Pattern[str]
    count: int | None = 1
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    #: How often it was looked at for something that matches, and how often it came.
    met: int = 0
    hits: int = 0

    def strikes(self, subject: str) -> bool:
        """Tell whether it comes now; the first `after` that match are let pass."""
        if (self.count is not None and self.hits >= self.count) or not self.match.search(subject):
            return False
        self.met += 1
        drawn = zlib.crc32(b"%d %d" % (self.seed, self.met)) / 2**32
        struck = self.met > self.after and drawn < self.probability
        self.hits += struck
        return struck


class Faults:
    """Hold the faults in force and play them, the first that matches. Loop thread only.

    It stands before the one place that answers requests, and before the one that delivers messages.
    """

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network
        self.clear()

    def clear(self) -> None:
        """Play nothing any more. What hangs goes on hanging until `heal`."""
        self.active = False
        self._requests: list[tuple[Fault, Spoiling]] = []
        self._deliveries: list[tuple[Fault, str]] = []
        #: Messages that wait, by their channel, for the next one to overtake them.
        self._overtaken: dict[str, Message] = {}
        self._dark = False
        self._tokens: dict[str, str] = {}
        self._refusal_age = 0.0
        self._refusals: dict[tuple[str, str], tuple[float, Reply]] = {}
        self._network.shared.delivery = None
        self._network.shared.hides = None

    def add(
        self,
        kind: str,
        match: str = "",
        *,
        count: int | None = 1,
        after: int = 0,
        probability: float = 1.0,
        seed: int = 0,
        **how: Any,
    ) -> Fault:
        """Add a fault and return it; `how` are the fields of `Spoiling` for those of requests.

        Raises:
            ValueError: there is no such fault.
        """
        fault = Fault(re.compile(match), count, after, probability, seed)
        if kind in DELIVERIES:
            self._deliveries.append((fault, kind))
            self._network.shared.delivery = self._deliver
        else:
            self._requests.append((fault, Spoiling(kind, **how)))
            self.active = True
        return fault

    def remove(self, fault: Fault) -> None:
        """Play this one no more."""
        self._requests = [each for each in self._requests if each[0] is not fault]
        self._deliveries = [each for each in self._deliveries if each[0] is not fault]

    def blackhole(self) -> None:
        """Let every connection, old and new, go silent both ways without closing."""
        self._dark = self.active = True
        for connection in self._network.connections:
            connection.silence()

    def heal(self) -> None:
        """End the darkness, and all connections that hang in it."""
        self._dark = False
        self._network.cut()

    async def refuse(self) -> None:
        """Close the listening port, and reset what is connected; everything is kept."""
        await self._network.refuse()

    async def accept(self) -> None:
        """Listen again on the same port."""
        await self._network.accept()

    async def restart(self, *, keep: bool = False) -> None:
        """Come back as another region, with or without the messages."""
        await self._network.refuse()
        if not keep:
            self._network.forget()
        self._network.move()
        await self._network.accept()

    def poison(self, channel: str, payload: bytes, *, kind: int = 0, store: bool = True) -> int:
        """Publish bytes that no check has seen, as an event of any kind; return the timetoken."""
        shared = self._network.shared
        message = Message(shared.timeline.draw(), channel, payload, shared.clock.monotonic(), kind=kind)
        self._network.first_realm.publish(message, store=store)
        return message.tt

    def history_lag(self, seconds: float) -> None:
        """Let history show what is younger than this only later."""
        clock = self._network.shared.clock
        self.history_drop(lambda message: message.at > clock.monotonic() - seconds)

    def history_drop(self, hides: Callable[[Message], bool] | None) -> None:
        """Hide these rows from history and counts; None shows them all again."""
        self._network.shared.hides = hides

    def expire(self, token: str) -> None:
        """Treat a token as one whose time is over."""
        self._tokens[token] = "Token is expired."
        self.active = True

    def revoke(self, token: str) -> None:
        """Treat a token as one that was taken back."""
        self._tokens[token] = "Token is revoked"
        self.active = True

    def cache_403(self, seconds: float) -> None:
        """Repeat a refusal to the same token and address for so long, whatever was granted meanwhile."""
        self._refusal_age = seconds
        self.active = True

    def answer(self, request: Request, serve: Callable[[], Answer]) -> Answer:
        """Answer a request as the faults in force want it; `serve` carries it out."""
        if self._dark:
            return asyncio.get_running_loop().create_future()
        subject = f"{request.method} {request.path}"
        for fault, spoiling in self._requests:
            if fault.strikes(subject):
                return spoiling.apply(serve)
        return self._guarded(request, serve)

    def _guarded(self, request: Request, serve: Callable[[], Answer]) -> Answer:
        """Refuse what the tokens that were taken back, or a remembered refusal, stand against."""
        now = asyncio.get_running_loop().time()
        token = query_of(request.query).get("auth", "")
        if token in self._tokens:
            return sentence(403, self._tokens[token])
        refused_at, refusal = self._refusals.get((token, request.path), (float("-inf"), None))
        if refusal is not None and now - refused_at < self._refusal_age:
            return refusal
        answer = serve()
        if self._refusal_age and isinstance(answer, Reply) and answer.status == 403:  # noqa: PLR2004
            if len(self._refusals) >= REMEMBERED:
                self._refusals.clear()
            self._refusals[token, request.path] = now, answer
        return answer

    def _deliver(self, realm: Realm, message: Message, store: bool) -> None:  # noqa: FBT001 - as the realm has it
        """Deliver a message as the faults in force want it."""
        kind = next((kind for fault, kind in self._deliveries if fault.strikes(message.channel)), "")
        if kind == "reorder":
            realm.put(message, store=store, deliver=False)
            self._overtaken[message.channel] = message
            return
        realm.put(message, store=store, deliver=kind != "swallow")
        if kind == "duplicate":
            realm.put(message, store=False, deliver=True)
        late = self._overtaken.pop(message.channel, None)
        if late is not None:
            # A poll goes on from the newest it saw: what is overtaken comes at a later place than history has it.
            realm.put(replace(late, tt=realm.shared.timeline.draw()), store=False, deliver=True)
