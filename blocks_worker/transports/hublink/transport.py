"""Publish and subscribe over the link to a self-hosted hub: no poll, and the hub says itself what it no longer has."""

from __future__ import annotations

import logging
import threading
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.concurrency import Backoff
from blocks_worker.errors import PublishRefusedError, PublishTimeoutError, TransportClosedError
from blocks_worker.protocol.chunks import RAW, RawFrame, bundles, spoken
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.link import Publish, Where
from blocks_worker.transports.envelope import pack
from blocks_worker.transports.hublink.subscription import HubLinkSubscription
from blocks_worker.transports.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.protocol.link import Answer, ToHub
    from blocks_worker.transports.base import AtOnce, Grants, Underway
    from blocks_worker.transports.envelope import Envelope
    from blocks_worker.transports.hublink.link import Asked
    from blocks_worker.transports.hublink.link import Link as HubLink
    from blocks_worker.transports.hublink.subscription import Settings
    from blocks_worker.transports.numbering import Turn

_logger = logging.getLogger(__name__)

#: Seconds that one question waits for its answer before it is asked again.
ANSWER_PATIENCE = 10.0
#: Refusals in a row for want of a right after which a publish is given up.
PUBLISH_REFUSALS = 3

_OK = 200
_FORBIDDEN = 403
_SERVER_ERROR = 500


class HubLinkTransport:
    """Be one participant of a hub's network: one subscription, and publishing from any thread.

    Args:
        link: the link, which belongs to whoever gave it and may serve others too.
        settings: who this is there, now.
        grants: where tokens come from.
        producer: the random id of this process life.
        clock: the time.
        entropy: jitter.
        counters: numbers to count on from.
        at_once: takes the messages of the subscription on the link's thread, in place of its `receive`.

    `counters` are plain numbers of what happened, free for anybody to read.
    """

    def __init__(
        self,
        link: HubLink,
        settings: Callable[[], Settings],
        *,
        grants: Grants,
        producer: str,
        clock: Clock,
        entropy: Entropy,
        counters: dict[str, int] | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        self.counters: dict[str, int] = {} if counters is None else counters
        self._link = link
        self._settings = settings
        self._grants = grants
        self._producer = producer
        self._clock = clock
        self._entropy = entropy
        self._at_once = at_once
        self._numbering = Numbering()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._subscription: HubLinkSubscription | None = None
        link.start()

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Publish messages on a channel, in order; return when the hub has them.

        Frames of streams that are bytes travel as such, a message that is `RAW` and nothing else.

        Raises:
            InvalidMessageError: one is not strict JSON; it and what follows was not sent.
            MessageTooLargeError: one is more than an envelope; it and what follows was not sent.
            PublishRefusedError: the hub refused them for good.
            PublishTimeoutError: the deadline came before an answer.
            TransportClosedError: the transport was closed here.
        """
        with self._numbering.turn(channel, deadline) as turn:
            for each in self._begun(channel, messages, turn):
                each.settle(deadline)

    def begin(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> Underway:
        """Send messages, in order, without waiting until the hub has them; raises as `publish` what is known now."""
        with self._numbering.turn(channel, deadline) as turn:
            return _All([*self._begun(channel, messages, turn)])

    def hint(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> bool:
        """Send messages that are JSON, of which nobody hears whether they came; tell whether there is a link."""
        with self._numbering.turn(channel, deadline) as turn:
            self._check_open()
            return all(
                self._link.tell(partial(self._publish_of(channel, envelope, turn), 0), self._grants.token())
                for envelope in pack(messages, self._producer, turn.next)
            )

    def position(self, deadline: Deadline) -> int:
        """Return the hub's position before whatever is published from now on.

        Raises:
            PublishTimeoutError: the hub did not answer in time.
            TransportClosedError: the transport was closed here.
        """
        send = partial(self._link.begin, lambda number, _token: Where(number))
        answer = self.until_answered(send, deadline, token=False)
        return int(bytes(answer.body))

    def subscribe(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> HubLinkSubscription:
        """Start reading these channels; return once the position to read from is known or being sought.

        Raises:
            ValueError: there is a subscription already.
            TransportClosedError: the transport was closed here.
        """
        with self._lock:
            self._check_open()
            if self._subscription is not None:
                raise ValueError("this transport has its subscription: change its channels instead")
            self._subscription = HubLinkSubscription(
                self._link,
                self._settings,
                grants=self._grants,
                places={name: (since or {}).get(name, 0) for name in channels},
                clock=self._clock,
                entropy=self._entropy,
                counters=self.counters,
                at_once=self._at_once,
            )
        self._subscription.begin()
        return self._subscription

    def rebuild(self, reason: str) -> None:
        """Throw the connection away and go on from the same positions with a new one."""
        _logger.warning("transport_rebuilt", extra={"reason": reason})
        self.counters["rebuilds"] = self.counters.get("rebuilds", 0) + 1
        self._link.renew()

    def close(self, deadline: Deadline) -> None:
        """End the subscription; the link goes on for the others that use it."""
        self._closing.set()
        if self._subscription is not None:
            self._subscription.close(deadline)

    def _begun(self, channel: str, messages: Sequence[dict[str, Any]], turn: Turn) -> Iterator[_Begun]:
        """Send messages, and yield what each publish comes to: who takes the next one has it sent."""
        self._check_open()
        for is_raw, together in groupby(messages, _is_raw):
            if is_raw:
                yield self._pour(channel, [message[RAW] for message in together], turn)
                continue
            for envelope in pack(list(together), self._producer, turn.next):
                yield _Begun(self, partial(self._link.begin, self._publish_of(channel, envelope, turn)))

    def _publish_of(self, channel: str, envelope: Envelope, turn: Turn) -> Callable[[int, int], ToHub]:
        """Return what makes the publish of an envelope, under the same numbers each time."""
        turn.spend(envelope.count)
        payload = msgspec.Raw(encode(envelope.payload))
        settings = self._settings()

        def publish(number: int, token: int) -> ToHub:
            return Publish(number, settings.subscribe_key, settings.user_id, token, channel, payload)

        return publish

    def _pour(self, channel: str, frames: Sequence[RawFrame], turn: Turn) -> _Begun:
        """Send frames of bytes, one after the other without a pause, under the same numbers each time."""
        settings = self._settings()
        about = (settings.subscribe_key, settings.user_id, channel)
        made = []
        for bundle, count in bundles(frames, self._producer, turn.next):
            turn.spend(count)
            made.append(partial(spoken, about=about, bundle=bundle))
        return _Begun(self, partial(self._link.pour, made))

    def granted(self) -> str | None:
        """Return the grant of now."""
        return self._grants.token()

    def until_answered(
        self,
        send: Callable[[str | None], Asked | None],
        deadline: Deadline,
        *,
        token: bool,
        sent: tuple[str | None, Asked | None] | None = None,
    ) -> Answer:
        """Ask until there is a good answer, or none will come; `sent`: under which grant it was asked already."""
        backoff, refusals = Backoff(self._entropy), 0
        while True:
            self._check_open()
            if sent is None:
                grant = self._grants.token() if token else None
                sent = grant, send(grant)
            (grant, asked), sent = sent, None
            try:
                answer = None if asked is None else asked.answer(deadline.within(ANSWER_PATIENCE))
            except TimeoutError:
                answer = None
            if answer is not None and answer.status == _OK:
                return answer
            denied = answer is not None and answer.status == _FORBIDDEN
            refusals += denied
            if answer is not None and answer.status < _SERVER_ERROR and not (denied and refusals < PUBLISH_REFUSALS):
                raise PublishRefusedError(f"the hub refused a publish ({answer.status}): {bytes(answer.body).decode()}")
            if denied and self._grants.refresh(grant) and refusals == 1:
                continue
            self._wait(backoff.next(), deadline)

    def _wait(self, pause: float, deadline: Deadline) -> None:
        """Wait before the next try, when there is time for one."""
        left = deadline.remaining()
        if left is not None and pause >= left:
            raise PublishTimeoutError("the hub did not take a publish in time")
        if self._clock.wait(self._closing, pause):
            raise TransportClosedError("the transport was closed during a publish")

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise TransportClosedError("the transport was closed")


class _Begun:
    """Be one publish that was sent."""

    def __init__(self, transport: HubLinkTransport, send: Callable[[str | None], Asked | None]) -> None:
        self._transport = transport
        self._send = send
        self._grant = transport.granted()
        self._sent = send(self._grant)

    @property
    def is_answered(self) -> bool:
        """Whether its answer is there, or the link that it was sent over is not."""
        return self._sent is None or self._sent.is_answered

    def settle(self, deadline: Deadline) -> None:
        """Return when the hub has it."""
        # Under the grant of then: when that is refused, the one of now may be good.
        sent = None if self._sent is None else (self._grant, self._sent)
        self._transport.until_answered(self._send, deadline, token=True, sent=sent)


class _All:
    """Be several publishes, one after the other."""

    def __init__(self, begun: Sequence[_Begun]) -> None:
        self._begun = begun

    @property
    def is_answered(self) -> bool:
        """Whether all are."""
        return all(each.is_answered for each in self._begun)

    def settle(self, deadline: Deadline) -> None:
        """Return when the hub has all."""
        for each in self._begun:
            each.settle(deadline)


def _is_raw(message: dict[str, Any]) -> bool:
    return isinstance(message.get(RAW), RawFrame)
