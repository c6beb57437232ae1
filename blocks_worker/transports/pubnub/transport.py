"""Publish and subscribe over PubNub, hosted or local: the transport that keeps what its SDK promises only half.

The SDK is driven call by call: an own poll loop, an own position, and history for what a poll left out. Its
subscription manager is never used: it loses messages in silence and dies of a bad one.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Backoff
from blocks_worker.errors import (
    PublishRefusedError,
    PublishTimeoutError,
    TransportClosedError,
    TransportError,
)
from blocks_worker.transports.cursor import MemoryCursors
from blocks_worker.transports.envelope import VERSION, pack
from blocks_worker.transports.numbering import Numbering
from blocks_worker.transports.pubnub.client import NetworkClient, clamp_foreign_loggers
from blocks_worker.transports.pubnub.outcomes import AMBIGUOUS, REPEATABLE, CallFailedError, Kind
from blocks_worker.transports.pubnub.settings import PubNubSettings
from blocks_worker.transports.pubnub.subscription import Doors, PubNubSubscription

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.transports.base import Grants
    from blocks_worker.transports.cursor import CursorStore
    from blocks_worker.transports.envelope import Envelope

__all__ = ["PubNubSettings", "PubNubSubscription", "PubNubTransport", "clamp_foreign_loggers"]

_logger = logging.getLogger(__name__)

#: Seconds that `subscribe` waits for the position to read from; after that it is sought in the background.
HANDSHAKE_PATIENCE = 5.0
#: Refusals in a row for want of a right after which a publish is given up.
PUBLISH_REFUSALS = 3


@dataclass
class _Attempts:
    """What is known of an envelope that is not accepted yet."""

    backoff: Backoff
    refusals: int = 0
    #: The network may have it although it did not say so.
    doubt: bool = False

    def failed(self, failed: CallFailedError, *, renewed: bool) -> float:
        """Note a failure; return the seconds to wait before the next try, or raise for what no repetition mends."""
        self.doubt = self.doubt or failed.kind in AMBIGUOUS
        denied = failed.kind is Kind.DENIED
        self.refusals += denied
        if failed.kind not in REPEATABLE and not (denied and self.refusals < PUBLISH_REFUSALS):
            raise PublishRefusedError(f"the network refused a publish: {failed}") from failed
        if renewed and self.refusals == 1:
            return 0.0
        return self.backoff.next(at_least=1.0 if failed.kind is Kind.THROTTLED else 0.0)


class PubNubTransport:
    """Be the connection of one process: one subscription, and publishing from any thread.

    Args:
        settings: where the network is and how it behaves.
        grants: where tokens come from.
        producer: the random id of this process life.
        wake_channel: the private channel that wakes a held poll; ``w.<user id>`` if not given.
        clock: the time.
        entropy: jitter.
        cursors: where committed positions are kept; in memory if not given.
        counters: where to count; a transport that takes the place of another goes on with its numbers.

    `counters` are plain numbers of what happened, free for anybody to read.
    """

    def __init__(
        self,
        settings: PubNubSettings,
        *,
        grants: Grants,
        producer: str,
        wake_channel: str | None = None,
        clock: Clock,
        entropy: Entropy,
        cursors: CursorStore | None = None,
        counters: dict[str, int] | None = None,
    ) -> None:
        self._settings = settings
        self._grants = grants
        self._producer = producer
        self._wake_channel = wake_channel or f"w.{settings.user_id}"
        self._clock = clock
        self._entropy = entropy
        self._cursors = cursors or MemoryCursors()
        self._numbering = Numbering()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._send_client: NetworkClient | None = None
        self._subscription: PubNubSubscription | None = None
        self.counters: dict[str, int] = {} if counters is None else counters
        clamp_foreign_loggers()

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Publish messages on a channel, in order; return when the network has them.

        Raises:
            InvalidMessageError: one is not strict JSON; nothing was sent.
            MessageTooLargeError: one is more than an envelope; nothing was sent.
            PublishRefusedError: the network refused them for good.
            PublishTimeoutError: the deadline came before an answer.
            TransportClosedError: the transport was closed here.
        """
        with self._numbering.turn(channel, deadline) as turn:
            for envelope in pack(messages, self._producer, turn.next):
                turn.spend(envelope.count)
                attempts = _Attempts(Backoff(self._entropy))
                try:
                    self._deliver(channel, envelope, deadline, attempts)
                except TransportError:
                    if not attempts.doubt:  # numbers that were never with the network are free for the next
                        turn.spend(-envelope.count)
                    raise

    def position(self, deadline: Deadline) -> int:
        """Return the network's position before whatever is published from now on.

        Raises:
            PublishTimeoutError: the network did not answer in time.
            PublishRefusedError: it does not tell.
            TransportClosedError: the transport was closed here.
        """
        attempts = _Attempts(Backoff(self._entropy))
        while True:
            try:
                return self._sender().time()
            except CallFailedError as error:
                failed = error
            self._wait(attempts.failed(failed, renewed=False), deadline, failed)

    def check_readable(self, channels: Iterable[str], deadline: Deadline) -> None:
        """Ask the network once whether these may be read, before anything waits for what is on them.

        Raises:
            PublishRefusedError: they may not, or the network does not know its keys.
            PublishTimeoutError: the network did not answer in time.
        """
        names = [self._wake_channel, *channels]
        attempts = _Attempts(Backoff(self._entropy), refusals=PUBLISH_REFUSALS)
        client = NetworkClient(self._settings, self._grants, polls=True)
        try:
            while True:
                try:
                    client.poll(names, 0, 0)
                except CallFailedError as error:
                    failed = error
                else:
                    return
                self._wait(attempts.failed(failed, renewed=False), deadline, failed)
        finally:
            client.stop()

    def subscribe(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> PubNubSubscription:
        """Start reading these channels; return once the position to read from is known or being sought.

        A channel with a position in `since` is read from there.

        Raises:
            ValueError: there is a subscription already, or the channels are too many for one.
            TransportClosedError: the transport was closed here.
        """
        with self._lock:
            self._check_open()
            if self._subscription is not None:
                raise ValueError("this transport has its subscription: change its channels instead")
            self._subscription = PubNubSubscription(channels, self._doors(), since)
        self._subscription.start(HANDSHAKE_PATIENCE)
        return self._subscription

    def rebuild(self, reason: str) -> None:
        """Throw the connections away and go on from the same positions with new ones."""
        if self._subscription is not None:
            self._subscription.rebuild(reason)
        else:
            self._renew_sender()

    def close(self, deadline: Deadline) -> None:
        """End all subscriptions and connections."""
        # The subscription first: to wake a poll that cannot be interrupted it publishes.
        if self._subscription is not None:
            self._subscription.close(deadline)
        with self._lock:
            self._closing.set()
        self._renew_sender()

    def _deliver(self, channel: str, envelope: Envelope, deadline: Deadline, attempts: _Attempts) -> None:
        """Send one envelope, under the same numbers, until the network has it."""
        while True:
            client = self._sender()
            try:
                client.publish(channel, envelope.payload)
            except CallFailedError as error:
                failed = error
            else:
                self._count("published", envelope.count)
                return
            self._count(f"publish_failed.{failed.kind.value}")
            renewed = failed.kind is Kind.DENIED and client.renew()
            self._wait(attempts.failed(failed, renewed=renewed), deadline, failed)

    def _wait(self, pause: float, deadline: Deadline, failed: CallFailedError) -> None:
        """Wait before the next try, when there is time for one."""
        left = deadline.remaining()
        if left is not None and pause >= left:
            raise PublishTimeoutError(f"the network did not take a publish in time: {failed}") from failed
        if self._clock.wait(self._closing, pause):
            raise TransportClosedError("the transport was closed during a publish") from failed
        self._count("publish_repeats")

    def _sender(self) -> NetworkClient:
        """Return the client that publishes and reads history; it is built when first needed."""
        with self._lock:
            if self._send_client is None:
                self._check_open()
                self._send_client = NetworkClient(self._settings, self._grants, polls=False)
            return self._send_client

    def _renew_sender(self) -> None:
        with self._lock:
            client, self._send_client = self._send_client, None
        if client is not None:
            client.stop()

    def _ring(self) -> None:
        """Publish on the wake channel: what it says does not matter, that it comes does."""
        client = self._sender()
        payload = {"v": VERSION, "from": self._producer, "n": 1, "b": [{"wake": True}]}
        try:
            client.publish(self._wake_channel, payload, store=False)
        except CallFailedError as error:
            if error.kind is Kind.DENIED:
                client.renew()
            raise
        self._count("rings")

    def _doors(self) -> Doors:
        return Doors(
            settings=self._settings,
            poller=lambda: NetworkClient(self._settings, self._grants, polls=True),
            sender=self._sender,
            ring=self._ring,
            renew_sender=self._renew_sender,
            wake_channel=self._wake_channel,
            cursors=self._cursors,
            clock=self._clock,
            entropy=self._entropy,
            counters=self.counters,
        )

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise TransportClosedError("the transport was closed")

    def _count(self, name: str, number: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + number
