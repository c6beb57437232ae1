"""The stream of messages of a set of channels, as the hub sends it over the link."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from blocks_worker.concurrency import Backoff, Deadline, ServiceThread
from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import RAW, Brought, open_bundle
from blocks_worker.protocol.link import AHEAD_BYTES, AHEAD_MESSAGES, Denied, Follow, Followed, Lost, Said, Taken
from blocks_worker.transports.base import Gap, Link, Message, Status
from blocks_worker.transports.envelope import ENVELOPE_MESSAGES, read_envelope
from blocks_worker.transports.gaps import Seen
from blocks_worker.transports.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.link import Letter, ToHub
    from blocks_worker.transports.base import AtOnce, Grants, Received
    from blocks_worker.transports.hublink.link import Link as HubLink

_logger = logging.getLogger(__name__)

#: Seconds that a subscription waits for the position to read from; after that it is sought in the background.
HANDSHAKE_PATIENCE = 5.0
#: The hub is told what was taken each time that it is this share of what may be sent ahead.
SHARE = 4
#: Seconds between two looks at the token while a refusal is waited out.
TOKEN_LOOK = 1.0
#: What a gap or a status counts in the queue, bytes.
NOTE_SIZE = 64


class Settings(Protocol):
    """Say who somebody is on which keyset of the hub's network."""

    @property
    def subscribe_key(self) -> str:
        """The keyset."""

    @property
    def user_id(self) -> str:
        """Who it is there."""


class HubLinkSubscription:
    """Follow channels over a link; `up`, `down` and `hear` are called by the link's thread, and never wait."""

    def __init__(
        self,
        link: HubLink,
        settings: Callable[[], Settings],
        *,
        grants: Grants,
        places: Mapping[str, int],
        clock: Clock,
        entropy: Entropy,
        counters: dict[str, int],
        at_once: AtOnce | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._grants = grants
        self._clock = clock
        self._lock = threading.Lock()
        #: Up to where each channel was heard; 0 where that is not known yet.
        self._places = dict(places)
        self._life = ""
        self._turn = 0
        self._number = link.new_number()
        self._seen = Seen()
        # No bound of bytes: the hub sends no more ahead than fits, and the link's thread must not wait here.
        self._inbox = Inbox(clock, messages=2 * AHEAD_MESSAGES * ENVELOPE_MESSAGES, size=4 * AHEAD_BYTES)
        self._heard = [0, 0]
        self._taken = [0, 0]
        self._closing = threading.Event()
        self._begun = threading.Event()
        self._known = False
        self._late = False
        self._is_lost = False
        self._denials = Backoff(entropy, first=0.05)
        self._renewing = False
        self._at_once = at_once
        self.counters = counters

    def begin(self) -> None:
        """Follow, and wait for the position."""
        self._link.add(self._number, self)
        self._say_followed()
        self._late = not self._begun.wait(HANDSHAKE_PATIENCE)

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return all that waits, in order, waiting for the first; empty at the timeout.

        Raises:
            TransportClosedError: it was closed here.
        """
        received = self._inbox.take(timeout)
        self._tell_taken()
        return received

    def commit(self, position: int) -> None:
        """Do nothing: a process that begins anew asks the ledger."""

    def set_channels(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> None:
        """Listen to exactly these channels from now on; a new one from its position in `since`."""
        starts = since or {}
        with self._lock:
            before = self._places
            self._places = {name: before.get(name, starts.get(name, 0)) for name in channels}
            if self._places.keys() == before.keys():
                return
            seeks = 0 in self._places.values()
            if seeks:
                self._begun.clear()
        self._say_followed()
        if seeks and not self._is_lost:
            self._begun.wait(HANDSHAKE_PATIENCE)

    def close(self, deadline: Deadline) -> None:  # noqa: ARG002 - there is nothing to wait for
        """Stop reading; `receive` raises from now on."""
        self._closing.set()
        self._begun.set()
        self._inbox.close()
        self._link.remove(self._number)

    # ------------------------------------------------------------------ what the link calls
    def up(self) -> None:
        """Say what is followed, on a thread that may wait: a grant that is due is asked for over this very link."""
        ServiceThread("hub-link-grant", self._say_followed, daemon=True).start()

    def _say_followed(self) -> None:
        """Say what is followed, over the connection of now."""
        grant = self._grants.token()
        with self._lock:
            if self._closing.is_set():
                return
            self._turn += 1
            turn, places, life = self._turn, dict(self._places), self._life
        settings = self._settings()

        def follow(token: int) -> ToHub:
            return Follow(self._number, turn, settings.subscribe_key, settings.user_id, token, life, places)

        self._link.tell(follow, grant)

    def down(self, reason: str) -> None:
        """Tell the owner that nothing comes now."""
        if not self._is_lost:
            self._is_lost = True
            self._put(Status(Link.RETRYING, reason))

    def hear(self, operation: Followed | Denied | Said | Lost | Brought) -> None:
        """Take what the hub says."""
        match operation:
            case Brought():
                self._unpack(operation)
            case Said():
                for letter in operation.letters:
                    self._open(letter)
            case Followed():
                self._follow(operation)
            case Lost():
                self._count("gaps_open")
                self._put(Gap(operation.channel, operation.since, operation.until, filled=False))
            case Denied():
                self._be_denied(operation)

    def _follow(self, operation: Followed) -> None:
        """Take note that the hub sends from here on, and of what it no longer has."""
        with self._lock:
            if operation.turn != self._turn:
                return
            gone = [(name, self._places[name]) for name in operation.gone if name in self._places]
            if self._late and not self._known:
                gone += [(name, 0) for name, place in self._places.items() if not place]
            for name, _ in gone:
                self._places[name] = 0
            self._places = {name: place or operation.position for name, place in self._places.items()}
            self._life = operation.life
        self._count("gaps_open", len(gone))
        self._put(*(Gap(name, since, operation.position, filled=False) for name, since in gone))
        if not self._known:
            self._put(Status(Link.CONNECTED))
        elif self._is_lost:
            self._put(Status(Link.RECOVERED))
        self._known, self._is_lost = True, False
        self._begun.set()

    def _open(self, letter: Letter) -> None:
        """Hand over the new messages of a publish."""
        payload = bytes(letter.payload)
        if not self._is_followed(letter.channel, letter.position, len(payload)):
            return
        try:
            opened = read_envelope(payload)
        except InvalidMessageError as error:
            self._bury(letter.channel, error)
            return
        self._hand_over(letter, opened.producer, opened.first, opened.bodies, len(payload))

    def _unpack(self, brought: Brought) -> None:
        """Hand over the new frames of a publish of bytes."""
        if not self._is_followed(brought.channel, brought.position, len(brought.bundle)):
            return
        try:
            producer, first, frames = open_bundle(brought.bundle)
        except InvalidMessageError as error:
            self._bury(brought.channel, error)
            return
        self._hand_over(brought, producer, first, [{RAW: frame} for frame in frames], len(brought.bundle))

    def _is_followed(self, channel: str, position: int, size: int) -> bool:
        """Take note of a publish; tell whether it is still wanted."""
        with self._lock:
            self._heard[0] += 1
            self._heard[1] += size
            if channel in self._places:
                self._places[channel] = max(position, self._places[channel])
            return channel in self._places

    def _bury(self, channel: str, error: InvalidMessageError) -> None:
        self._count(f"dead_letter.{error.reason}")
        _logger.warning("transport_dead_letter", extra={"reason": error.reason, "channel": channel})

    def _hand_over(
        self, one: Letter | Brought, producer: str, first: int, bodies: Sequence[dict[str, Any]], size: int
    ) -> None:
        channel, position = one.channel, one.position
        numbers = self._seen.messages(channel, producer, first, len(bodies), position)
        new = [Message(channel, bodies[number - first], position, producer, number) for number in numbers]
        if len(new) < len(bodies):
            self._count("duplicates", len(bodies) - len(new))
        if self._at_once is None:
            share = size // len(bodies) + NOTE_SIZE
            self._inbox.put((message, share) for message in new)
        elif self._at_once(new) or _is_much(*self._heard):
            self._inbox.wake()

    def _be_denied(self, operation: Denied) -> None:
        """Tell the owner, and get another grant on a thread that may wait."""
        with self._lock:
            if operation.turn != self._turn or self._renewing:
                return
            self._renewing = True
        self._is_lost = True
        self._put(Status(Link.UNAUTHORIZED, operation.message, channels=tuple(operation.channels)))
        ServiceThread("hub-link-grant", self._renew, daemon=True).start()

    def _renew(self) -> None:
        """Ask for another grant, and follow again with what there is then, after a pause that grows."""
        refused = self._grants.token()
        renewed = self._grants.refresh(refused)
        pause = Deadline(self._denials.next(at_least=0.0 if renewed else TOKEN_LOOK), self._clock)
        while not pause.expired() and (renewed or self._grants.token() == refused):
            if self._clock.wait(self._closing, pause.within(TOKEN_LOOK)):
                return
        with self._lock:
            self._renewing = False
        self._say_followed()

    def _tell_taken(self) -> None:
        with self._lock:
            self._taken = [self._taken[0] + self._heard[0], self._taken[1] + self._heard[1]]
            self._heard = [0, 0]
            messages, size = self._taken
            if not _is_much(messages, size):
                return
            self._taken = [0, 0]
        self._link.tell(lambda _token: Taken(self._number, messages, size))

    def _put(self, *items: Received) -> None:
        self._inbox.put((item, NOTE_SIZE) for item in items)

    def _count(self, name: str, number: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + number


def _is_much(messages: int, size: int) -> bool:
    """Tell whether the hub is to be told that so much was taken."""
    return messages * SHARE >= AHEAD_MESSAGES or size * SHARE >= AHEAD_BYTES
