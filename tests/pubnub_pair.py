"""Two transports on one local network, and what tests ask of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from localnet import KEYS

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.transports.base import Gap, Message, Status
from blocks_worker.transports.pubnub.transport import PubNubSettings, PubNubTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.transports.base import Subscription


class Tokens:
    """Be grants that a test hands out: the token in force, and the one that a refresh brings."""

    def __init__(self, token: str | None = None, fresh: str | None = None) -> None:
        self._token = token
        self.fresh = fresh
        self.refreshed = 0

    def token(self) -> str | None:
        """Return the token in force."""
        return self._token

    def refresh(self, refused: str | None) -> bool:
        """Take the fresh one."""
        self.refreshed += 1
        self._token = self.fresh or self._token
        return self._token != refused


class Inbox:
    """Gather what a subscription brings, on the test's own thread."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.messages: list[Message] = []
        self.gaps: list[Gap] = []
        self.statuses: list[Status] = []

    def gather(self, done: Callable[[Inbox], Any], timeout: float = 15.0) -> Inbox:
        """Take until the test is content; fail when it is not in time."""
        deadline = Deadline(timeout)
        while not done(self):
            assert not deadline.expired(), self
            for item in self.subscription.receive(deadline.within(1.0)):
                kinds: dict[type, list[Any]] = {Message: self.messages, Gap: self.gaps, Status: self.statuses}
                kinds[type(item)].append(item)
        return self

    def until(self, count: int, timeout: float = 15.0) -> list[Any]:
        """Take until so many messages came; return what they say under "i"."""
        self.gather(lambda inbox: len(inbox.messages) >= count, timeout)
        return self.said()

    def said(self) -> list[Any]:
        """Return what the messages say under "i"."""
        return [message.body.get("i") for message in self.messages]

    def links(self) -> list[str]:
        """Return how things stood, one after the other."""
        return [status.link.value for status in self.statuses]

    def __repr__(self) -> str:
        return f"<{len(self.messages)} messages, {self.gaps}, {self.statuses}>"


@contextmanager
def transports() -> Iterator[Callable[..., PubNubTransport]]:
    """Give a function that opens transports to a port; they are closed with the block."""
    made: list[PubNubTransport] = []

    def make(
        port: int, name: str, *, grants: Any = None, clock: Clock | None = None, **settings: Any
    ) -> PubNubTransport:
        own = {key: settings.pop(key) for key in ("cursors", "wake_channel") if key in settings}
        transport = PubNubTransport(
            PubNubSettings(
                f"http://127.0.0.1:{port}", KEYS.publish_key, KEYS.subscribe_key, name, **{"hold": 5.0, **settings}
            ),
            grants=grants or Tokens(),
            producer=f"{name}-{Entropy().name(4)}",
            clock=clock or Clock(),
            entropy=Entropy(),
            **own,
        )
        made.append(transport)
        return transport

    try:
        yield make
    finally:
        for transport in made:
            transport.close(Deadline(5))
