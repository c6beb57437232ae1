"""The seam to publish/subscribe: what every transport promises, in words and types.

**Promise.** Delivery is best effort towards the network and exact towards the owner:

- `publish` returns when the network has the messages, and raises otherwise: `PublishRefusedError`
  (never repeat), `PublishTimeoutError` (unknown, repeat with the same content), `MessageTooLargeError`
  (nothing was sent), `TransportClosedError`. Messages published by one thread on one channel keep their
  order. What is handed over together may travel together.
- A subscription hands its owner every message of its channels from the moment `subscribe` returned,
  once, in order within a channel, as far as the network kept it. Where it cannot, it says so with a
  `Gap` whose `filled` is false: the owner then asks the hub, which is the ledger.
- A subscription never goes deaf in silence. It reconnects for ever with backoff, keeps its position
  over errors, and tells its owner with a `Status` what it met.
- The owner takes with `receive` on its own thread; nothing of the owner's runs on a transport thread, save what it
  gave to take messages `AtOnce`, where the transport can.
  What waits for the owner is bounded (`QUEUE_MESSAGES`, `QUEUE_BYTES`); a full queue stops the reading,
  not the memory.
- `close` ends everything by a deadline and never waits for a foreign thread beyond it.

Nothing on a transport starts, ends or changes a task: whoever receives treats it as hostile input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blocks_worker.concurrency import Deadline

#: What may wait for the owner of a subscription before the transport stops reading.
QUEUE_MESSAGES = 1024
QUEUE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Message:
    """One logical message: `body` is decoded JSON, `position` the network's own, for `commit`."""

    channel: str
    body: dict[str, Any]
    position: int
    #: Who sent it (one process life) and its number on this channel: together they name it.
    producer: str = ""
    number: int = 0


@dataclass(frozen=True)
class Gap:
    """Messages of `channel` between two positions may be missing; `filled`: they were all found again."""

    channel: str
    since: int
    until: int
    filled: bool


class Link(str, Enum):
    """How a subscription stands with its network."""

    CONNECTED = "connected"
    RECOVERED = "recovered"
    RETRYING = "retrying"
    UNAUTHORIZED = "unauthorized"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """The subscription changed its standing; `detail` is for the log and holds no secret."""

    link: Link
    detail: str = ""
    channels: tuple[str, ...] = field(default=())


Received = Message | Gap | Status


class Grants(Protocol):
    """Where a transport gets the token that lets it read and write its channels."""

    def token(self) -> str | None:
        """Return the token to use now; None where the network asks for none."""

    def refresh(self, refused: str | None) -> bool:
        """Get a new token because this one was refused; tell whether there is another one now.

        Callers may come together: one asks, all get its answer.
        """


class AtOnce(Protocol):
    """Take messages on the transport's own thread; it waits for nothing that this thread would have to bring."""

    def __call__(self, messages: Sequence[Message]) -> bool:
        """Take new messages, in order; tell whether `receive`, which has all else, is to return now."""


class Subscription(Protocol):
    """Be the stream of messages of a set of channels, taken by one owner thread."""

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return all that waits, in order, waiting for the first; empty at the timeout.

        Raises:
            TransportClosedError: it was closed here; nothing more comes.
        """

    def commit(self, position: int) -> None:
        """Say that every message up to this position is dealt with."""

    def set_channels(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> None:
        """Listen to exactly these channels from now on.

        A new channel is read from its position in `since`, as far as the network kept it, or from the current one.
        """

    def close(self, deadline: Deadline) -> None:
        """Stop reading; `receive` raises from now on."""


class Transport(Protocol):
    """Be the connection of one process to a publish/subscribe network."""

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Publish messages on a channel, in order; return when the network has them."""

    def position(self, deadline: Deadline) -> int:
        """Return the network's position before whatever is published from now on, for `since`."""

    def subscribe(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> Subscription:
        """Start reading these channels; return once the position to read from is known or being sought.

        A channel with a position in `since` is read from there, as far as the network kept it.
        """

    def rebuild(self, reason: str) -> None:
        """Throw the connections away and go on from the same positions with new ones."""

    def close(self, deadline: Deadline) -> None:
        """End all subscriptions and connections."""


class Underway(Protocol):
    """Be a publish that was sent; whether the network has it is known later."""

    @property
    def is_answered(self) -> bool:
        """Whether `settle` would not wait for an answer."""

    def settle(self, deadline: Deadline) -> None:
        """Return when the network has it, sending it again where that helps; raises as `publish` does."""


@runtime_checkable
class AheadTransport(Transport, Protocol):
    """Be a transport over which publishes go ahead of their answers."""

    def begin(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> Underway:
        """Send messages without waiting for the answer.

        One that has to be sent again comes behind what was begun after it.
        """

    def hint(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> bool:
        """Send messages of which nobody hears whether they came; tell whether there is a connection."""
