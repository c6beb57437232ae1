"""The reading side of the transport as its owner has it: take, commit, change the set, close."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.transports.base import Link, Status
from blocks_worker.transports.channel_set import ChannelSet
from blocks_worker.transports.cursor import Cursor, cursor_key
from blocks_worker.transports.inbox import Inbox
from blocks_worker.transports.pubnub.flow import NOTE_SIZE, Flow
from blocks_worker.transports.pubnub.health import Health
from blocks_worker.transports.pubnub.history import History
from blocks_worker.transports.pubnub.reader import Parts, Reader
from blocks_worker.transports.pubnub.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.transports.base import Received
    from blocks_worker.transports.cursor import CursorStore
    from blocks_worker.transports.pubnub.client import NetworkClient
    from blocks_worker.transports.pubnub.settings import PubNubSettings

_logger = logging.getLogger(__name__)

#: Readers that were given up and still wait in foreign code; each holds a thread and a connection.
ABANDONED = 3
#: Seconds between two saves of the position.
SAVE_INTERVAL = 1.0


@dataclass(frozen=True)
class Doors:
    """What a subscription has from its transport."""

    settings: PubNubSettings
    poller: Callable[[], NetworkClient]
    sender: Callable[[], NetworkClient]
    #: Publishes on the wake channel.
    ring: Callable[[], None]
    renew_sender: Callable[[], None]
    wake_channel: str
    cursors: CursorStore
    clock: Clock
    entropy: Entropy
    counters: dict[str, int]


class PubNubSubscription:
    """Own the reader, its successors, and the watch over them; everything is taken on the owner's thread."""

    def __init__(self, channels: Iterable[str], doors: Doors, since: Mapping[str, int] | None = None) -> None:
        self._doors = doors
        self._clock = doors.clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._begun = threading.Event()
        self._late = False
        self._generation = 0
        self._abandoned: list[Reader] = []
        self._committed = 0
        self._saved_at = float("-inf")
        self._watch = Watch(self, doors.ring, hold=doors.settings.hold, clock=doors.clock)
        self._parts = self._make_parts(channels, since)
        self._reader = self._make_reader()

    def start(self, patience: float) -> None:
        """Start reading; return when the position is known, or after `patience` seconds."""
        self._reader.start()
        self._watch.start()
        if not self._clock.wait(self._begun, patience):
            with self._lock:
                self._late = not self._begun.is_set()

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return all that waits, in order, waiting for the first; empty at the timeout."""
        return self._parts.inbox.take(timeout)

    def commit(self, position: int) -> None:
        """Say that every message up to this position is dealt with."""
        with self._lock:
            self._committed = max(self._committed, position)
            now = self._clock.monotonic()
            due = now - self._saved_at >= SAVE_INTERVAL
            if due:
                self._saved_at = now
        if due:
            self._save()

    def set_channels(self, channels: Iterable[str], *, since: Mapping[str, int] | None = None) -> None:
        """Listen to exactly these channels from now on; a new one from its position in `since`."""
        left, changed = self._parts.channels.replace(channels, since)
        self._parts.flow.forget(left)
        if changed and not self._closed.is_set():
            self._parts.nudge.set()
            self._watch.ring()

    def depth(self) -> int:
        """Return how much waits for the owner."""
        return self._parts.inbox.depth()

    def close(self, deadline: Deadline) -> None:
        """Stop reading; `receive` raises from now on."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            reader, abandoned = self._reader, self._abandoned
            reader.retired = True
        self._parts.inbox.close()
        self._parts.nudge.set()
        # A poll that can be interrupted needs no ring, and so no connection to send it.
        self._watch.stop(farewell=not reader.client.interruptible)
        reader.interrupt()
        ended = [thread.join(deadline.remaining()) for thread in (reader, *abandoned)]
        if not self._watch.join(deadline.remaining()) or not all(ended):
            _logger.warning("transport_threads_abandoned")
        self._save()

    def rebuild(self, reason: str) -> None:
        """Throw the connections away and go on from the same position with new ones."""
        with self._lock:
            if self._closed.is_set():
                return
            self._abandoned = [reader for reader in self._abandoned if reader.is_alive()]
            full = len(self._abandoned) >= ABANDONED
            old = self._reader
            if not full:
                old.retired = True
                self._abandoned.append(old)
                self._reader = self._make_reader()
                new = self._reader
        _logger.warning("transport_failed" if full else "transport_rebuilt", extra={"reason": reason})
        if full:
            self._parts.inbox.put([(Status(Link.FAILED, f"too many connections hang: {reason}"), NOTE_SIZE)])
            return
        self._parts.count("rebuilds")
        self._doors.renew_sender()
        new.start()
        old.interrupt()

    def polling_since(self) -> float | None:
        """Return since when (monotonic) a poll is under way, None when none is."""
        return self._reader.polling_since

    def next_look(self) -> float | None:
        """Return the monotonic time at which the reader has something to do besides polling."""
        times = (self._parts.flow.next_look(), self._parts.channels.next_return())
        return min((when for when in times if when is not None), default=None)

    def slept(self) -> bool:
        """Tell whether the machine slept since the last time."""
        return self._parts.health.slept()

    def _make_parts(self, channels: Iterable[str], since: Mapping[str, int] | None) -> Parts:
        doors, inbox = self._doors, Inbox(self._clock)
        history = History(doors.sender, clock=doors.clock, stopping=self._closed, counters=doors.counters)
        flow = Flow(
            inbox,
            history,
            retention_limit=doors.settings.retention_limit,
            wake_channel=doors.wake_channel,
            clock=doors.clock,
            counters=doors.counters,
        )
        return Parts(
            channels=ChannelSet(channels, doors.wake_channel, since),
            flow=flow,
            health=Health(doors.clock, doors.entropy, nearby=doors.settings.is_loopback),
            history=history,
            inbox=inbox,
            clock=doors.clock,
            counters=doors.counters,
            retention_age=doors.settings.retention_age,
            nudge=threading.Event(),
            heard=self._watch.heard,
            look=self._watch.look,
            rebuild=self.rebuild,
            begun=self._note_begun,
        )

    def _make_reader(self) -> Reader:
        self._generation += 1
        return Reader(self._parts, self._doors.poller(), self._generation)

    def _note_begun(self) -> tuple[int | None, bool]:
        saved = self._doors.cursors.load(self._key())
        with self._lock:
            self._begun.set()
            return (saved.position if saved else None), self._late

    def _save(self) -> None:
        if self._committed:
            cursor = Cursor(self._committed, self._parts.flow.region, self._clock.wall_ms())
            self._doors.cursors.save(self._key(), cursor)

    def _key(self) -> str:
        settings = self._doors.settings
        return cursor_key(settings.origin, settings.subscribe_key, settings.user_id, self._parts.channels.wanted)
