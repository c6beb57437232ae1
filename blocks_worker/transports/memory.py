"""Publish and subscribe inside one process, for tests: the same promises as over a network, without one.

The bus is the network: it keeps the newest messages and gives them out by position. A subscription has no thread;
its owner reads the bus, so what waits for a slow owner is what the bus keeps, and no more.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import PublishTimeoutError, TransportClosedError
from blocks_worker.transports.base import QUEUE_BYTES, QUEUE_MESSAGES, Gap, Link, Message, Received, Status
from blocks_worker.transports.envelope import Envelope, pack
from blocks_worker.transports.gaps import Seen
from blocks_worker.transports.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_logger = logging.getLogger(__name__)

#: Messages that a bus keeps over all channels: many times what one owner may have waiting.
KEPT = 10_000
#: Seconds between two tries while the bus does not answer; its return ends the wait earlier.
PAUSE = 0.05


class Letter(NamedTuple):
    """Be one message on the bus; `text` is its JSON, so that no two readers share an object."""

    position: int
    channel: str
    producer: str
    number: int
    text: str


class MemoryBus:
    """Keep messages in order for whoever reads them; every method may be called from every thread."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._changed = threading.Condition()
        self._version = 0
        self._head = 0
        self._letters: deque[Letter] = deque()
        self._channels: dict[str, deque[Letter]] = {}
        #: Up to where messages are gone: of each channel that outgrew the bus, and of all.
        self._dropped: dict[str, int] = {}
        self._forgotten = 0
        self._away = False

    def append(self, channel: str, producer: str, first: int, texts: Sequence[str]) -> None:
        """Take messages, numbered from `first`.

        Raises:
            ConnectionError: the bus is away.
        """
        with self._changed:
            self._check_there()
            for number, text in enumerate(texts, first):
                self._head += 1
                letter = Letter(self._head, channel, producer, number, text)
                self._letters.append(letter)
                self._channels.setdefault(channel, deque()).append(letter)
            while len(self._letters) > self._kept:
                self._drop_oldest()
            self._tell()

    def read(self, since: Mapping[str, int]) -> tuple[list[Letter], dict[str, int]]:
        """Return what came on these channels after these positions, and up to where a channel's messages are gone.

        Raises:
            ConnectionError: the bus is away.
        """
        with self._changed:
            self._check_there()
            gone = {name: max(self._forgotten, self._dropped.get(name, 0)) for name in since}
            found = [each for name in since for each in self._channels.get(name, ()) if each.position > since[name]]
        return sorted(found), {name: until for name, until in gone.items() if until > since[name]}

    def head(self) -> int:
        """Return the position of the newest message."""
        return self._head

    def version(self) -> int:
        """Return a number that changes with whatever happens here."""
        return self._version

    def wait(self, version: int, timeout: float | None) -> None:
        """Wait until something happened since this version."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._tell()

    def cut(self) -> None:
        """Be away from now on, and forget every message, as a network that dies does."""
        with self._changed:
            self._away = True
            self._letters.clear()
            self._channels.clear()
            self._dropped.clear()
            self._head += 1
            self._forgotten = self._head
            self._tell()

    def restore(self) -> None:
        """Be there again."""
        with self._changed:
            self._away = False
            self._tell()

    def _drop_oldest(self) -> None:
        letter = self._letters.popleft()
        kept = self._channels[letter.channel]
        kept.popleft()
        self._dropped[letter.channel] = letter.position
        if not kept:
            del self._channels[letter.channel]

    def _check_there(self) -> None:
        if self._away:
            raise ConnectionError("the bus is away")

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()


class MemorySubscription:
    """Read the bus on the owner's own thread."""

    def __init__(self, bus: MemoryBus, channels: Iterable[str], since: Mapping[str, int] | None = None) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._since = {name: (since or {}).get(name, bus.head()) for name in channels}
        self._seen = Seen()
        self._closed = False
        self._links = [Status(Link.CONNECTED, channels=tuple(self._since))]
        self._lost = False

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return what waits, in order and at most a queue of it, waiting for the first; empty at the timeout."""
        deadline = Deadline(timeout)
        while True:
            version = self._bus.version()
            taken = self._take()
            if taken or deadline.expired():
                return taken
            left = deadline.remaining()
            # A bus that does not answer may come back without a word.
            self._bus.wait(version, deadline.within(PAUSE) if self._lost else left)

    def commit(self, position: int) -> None:
        """Do nothing: a process that ends takes the bus with it, so nobody comes back for the rest."""

    def set_channels(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> None:
        """Listen to exactly these channels from now on; a new one from its position in `since`."""
        with self._lock:
            starts, head = since or {}, self._bus.head()
            self._since = {name: self._since.get(name, starts.get(name, head)) for name in channels}
        self._bus.wake()

    def close(self, deadline: Deadline) -> None:  # noqa: ARG002 - there is nothing to wait for
        """Stop reading; `receive` raises from now on."""
        self._closed = True
        self._bus.wake()

    def _take(self) -> list[Received]:
        with self._lock:
            if self._closed:
                raise TransportClosedError("the subscription was closed")
            links, self._links = list(self._links), []
            try:
                letters, gone = self._bus.read(self._since)
            except ConnectionError as error:
                if not self._lost:
                    links.append(Status(Link.RETRYING, str(error)))
                self._lost = True
                return list(links)
            if self._lost:
                links.append(Status(Link.RECOVERED))
            self._lost = False
            return [*links, *self._gaps(gone), *self._opened(letters)]

    def _gaps(self, gone: Mapping[str, int]) -> list[Gap]:
        gaps = [Gap(name, self._since[name], until, filled=False) for name, until in gone.items()]
        self._since.update(gone)
        return gaps

    def _opened(self, letters: Sequence[Letter]) -> list[Message]:
        """Return messages that are new, as many as a queue may hold; the rest stays on the bus."""
        found: list[Message] = []
        size = 0
        for letter in sorted(letters):
            if len(found) >= QUEUE_MESSAGES or size >= QUEUE_BYTES:
                break
            self._since[letter.channel] = letter.position
            if self._seen.message(letter.channel, letter.producer, letter.number, letter.position):
                size += len(letter.text)
                body = json.loads(letter.text)
                found.append(Message(letter.channel, body, letter.position, letter.producer, letter.number))
        return found


class MemoryTransport:
    """Be one participant of a bus: one subscription, and publishing from any thread."""

    def __init__(self, bus: MemoryBus, *, producer: str) -> None:
        self._bus = bus
        self._producer = producer
        self._numbering = Numbering()
        self._lock = threading.Lock()
        self._closed = False
        self._subscription: MemorySubscription | None = None

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Publish messages on a channel, in order; return when the bus has them.

        Raises:
            InvalidMessageError: one is not strict JSON; nothing was sent.
            MessageTooLargeError: one is more than an envelope; nothing was sent.
            PublishTimeoutError: the deadline came before the bus answered.
            TransportClosedError: the transport was closed here.
        """
        with self._numbering.turn(channel, deadline) as turn:
            self._check_open()
            for envelope in pack(messages, self._producer, turn.next):
                turn.spend(envelope.count)
                self._deliver(channel, envelope, deadline)

    def position(self, deadline: Deadline) -> int:  # noqa: ARG002 - the bus answers at once
        """Return the bus's position before whatever is published from now on."""
        self._check_open()
        return self._bus.head()

    def subscribe(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> MemorySubscription:
        """Start reading these channels from here on, or each from its position in `since`.

        Raises:
            ValueError: there is a subscription already.
            TransportClosedError: the transport was closed here.
        """
        with self._lock:
            self._check_open()
            if self._subscription is not None:
                raise ValueError("this transport has its subscription: change its channels instead")
            self._subscription = MemorySubscription(self._bus, channels, since)
            return self._subscription

    def rebuild(self, reason: str) -> None:
        """Have everybody look again: there is no connection that could be renewed."""
        _logger.info("transport_rebuilt", extra={"reason": reason})
        self._bus.wake()

    def close(self, deadline: Deadline) -> None:
        """End the subscription, and every publish that waits."""
        with self._lock:
            self._closed = True
        if self._subscription is not None:
            self._subscription.close(deadline)
        self._bus.wake()

    def _deliver(self, channel: str, envelope: Envelope, deadline: Deadline) -> None:
        """Hand one envelope over, under the same numbers, until the bus says that it has it."""
        texts = [json.dumps(body) for body in envelope.payload["b"]]
        while True:
            self._check_open()
            version = self._bus.version()
            try:
                self._bus.append(channel, self._producer, envelope.payload["n"], texts)
            except ConnectionError as error:
                if deadline.expired():
                    raise PublishTimeoutError(f"the bus did not take a publish in time: {error}") from error
            else:
                return
            self._bus.wait(version, deadline.within(PAUSE))

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosedError("the transport was closed")
