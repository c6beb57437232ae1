"""A transport that goes along when its network moves: the owner keeps what he holds, and is told to catch up.

Nothing of the old network's waits over a move: positions, cursors and what was not taken yet stay behind. The owner
gets `Link.RECOVERED` from the new one, and asks the ledger, as after every outage.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import TransportClosedError
from blocks_worker.transports.base import Link, Message, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from blocks_worker.concurrency import Clock
    from blocks_worker.transports.base import Received, Subscription, Transport

_logger = logging.getLogger(__name__)

#: Seconds for closing a transport that was left.
CLOSING = 2.0

_THERE = frozenset({Link.CONNECTED, Link.RECOVERED})

Aim = TypeVar("Aim")
Answer = TypeVar("Answer")


class Route(Protocol):
    """Who knows where the network is; every method returns at once."""

    def follow(self, moved: Callable[[], None]) -> None:
        """Call this after the network moved, on a thread that may wait."""

    def leave(self, moved: Callable[[], None]) -> None:
        """Call it no more."""

    def lose(self, who: object) -> None:
        """The network is away for this one: look for it until `regain`."""

    def regain(self, who: object) -> None:
        """The network is there for this one, or he needs it no more."""

    def ask(self) -> None:
        """Something is strange: look once."""


class MovingTransport(Generic[Aim]):
    """Be the transport to wherever the network is.

    Args:
        route: is told how the network does, and tells when it moved.
        aim: what the network of now is reached by; another value means another network.
        open_transport: opens a transport there.
        clock: the time.
    """

    def __init__(
        self, *, route: Route, aim: Callable[[], Aim], open_transport: Callable[[Aim], Transport], clock: Clock
    ) -> None:
        self._route = route
        self._find_aim = aim
        self._open = open_transport
        self._clock = clock
        #: Held over a move, and while a subscription begins: one that begins can not go along.
        self._moving = threading.Lock()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._subscription: MovingSubscription | None = None
        self._aim = aim()
        self._transport = open_transport(self._aim)
        route.follow(self._follow)
        self._follow()  # it may have moved before this was to be told

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Publish messages on a channel, in order; again on the new network when the old one was left meanwhile."""
        self._there(lambda transport: transport.publish(channel, messages, deadline))

    def position(self, deadline: Deadline) -> int:
        """Return the position of the network of now before whatever is published from now on."""
        return self._there(lambda transport: transport.position(deadline))

    def subscribe(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> MovingSubscription:
        """Start reading these channels; return once the position to read from is known or being sought."""
        wanted = tuple(channels)
        with self._moving:
            first = self._transport.subscribe(wanted, since=since)
            self._subscription = MovingSubscription(first, wanted, self._route, self._clock)
        return self._subscription

    def rebuild(self, reason: str) -> None:
        """Throw the connections away and go on with new ones; whoever asks for it may be at the wrong network."""
        self._transport.rebuild(reason)
        self._route.ask()

    def close(self, deadline: Deadline) -> None:
        """End all subscriptions and connections."""
        self._route.leave(self._follow)
        with self._lock:
            self._closed.set()
            transport, subscription = self._transport, self._subscription
        if subscription is not None:
            subscription.close(deadline)
        transport.close(deadline)

    def _there(self, act: Callable[[Transport], Answer]) -> Answer:
        """Do it on the network of now; once more when that was left meanwhile."""
        while True:
            transport = self._transport
            try:
                return act(transport)
            except TransportClosedError:
                if self._closed.is_set() or transport is self._transport:
                    raise

    def _follow(self) -> None:
        """Go where the network is now, when that is elsewhere."""
        with self._moving:
            aim = self._find_aim()
            if not self._closed.is_set() and aim != self._aim:
                self._move(aim)

    def _move(self, aim: Aim) -> None:
        fresh = self._open(aim)
        with self._lock:
            closed = self._closed.is_set()
            left = fresh if closed else self._transport
            if not closed:
                self._transport, self._aim = fresh, aim
        try:
            if not closed and self._subscription is not None:
                self._subscription.move(fresh)
        except TransportClosedError:  # it was closed here meanwhile, and takes all with it
            _logger.debug("move_given_up")
        finally:
            left.close(self._budget())
        _logger.warning("transport_moved")

    def _budget(self) -> Deadline:
        return Deadline(CLOSING, self._clock)


class MovingSubscription:
    """Be the stream of one set of channels, on one network after another; one owner takes it."""

    def __init__(self, first: Subscription, channels: Iterable[str], route: Route, clock: Clock) -> None:
        self._first = first
        self._inner = first
        self._channels = tuple(channels)
        self._route = route
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        #: Whose messages the owner deals with: positions of another network mean nothing to it.
        self._taken = first

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return all that waits, in order, waiting for the first; empty at the timeout."""
        deadline = Deadline(timeout, self._clock)
        while True:
            inner = self._inner
            try:
                received = inner.receive(deadline.remaining())
            except TransportClosedError:
                if self._closed or inner is self._inner:
                    raise
                continue  # it was left for another one
            self._taken = inner
            if any(isinstance(item, Message) for item in received):
                self._route.regain(self)
            return [self._noted(item, moved=inner is not self._first) for item in received]

    def commit(self, position: int) -> None:
        """Say that every message up to this position is dealt with."""
        if self._taken is self._inner:
            self._taken.commit(position)

    def set_channels(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> None:
        """Listen to exactly these channels from now on; a new one from its position in `since`."""
        with self._lock:
            self._channels = wanted = tuple(channels)
            inner = self._inner
        inner.set_channels(wanted, since=since)

    def close(self, deadline: Deadline) -> None:
        """Stop reading; `receive` raises from now on."""
        with self._lock:
            self._closed = True
            inner = self._inner
        inner.close(deadline)
        self._route.regain(self)

    def move(self, transport: Transport) -> None:
        """Go on with this transport; what the old one still holds is left to the ledger."""
        channels = self._channels
        fresh = transport.subscribe(channels)
        with self._lock:
            old, closed = self._inner, self._closed
            if not closed:
                self._inner = fresh
            wanted = self._channels
        left = fresh if closed else old
        # Closing the old one wakes the owner, who then finds the new one.
        left.close(Deadline(CLOSING, self._clock))
        if wanted != channels and not closed:
            fresh.set_channels(wanted)

    def _noted(self, item: Received, *, moved: bool) -> Received:
        """Pass on how the network does; the beginning on another network is a recovery for the owner."""
        if not isinstance(item, Status):
            return item
        if item.link in _THERE:
            self._route.regain(self)
        else:
            self._route.lose(self)
        return replace(item, link=Link.RECOVERED) if moved and item.link is Link.CONNECTED else item
