"""From replies to what the owner gets: in order, once, with what was missing found again or said to be missing.

One reader at a time is in here, by `lock`: when a reader was given up while it handed messages over, the next one
waits until they are queued, and then finds them seen.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.errors import InvalidMessageError
from blocks_worker.transports.base import Gap, Message
from blocks_worker.transports.envelope import open_envelope
from blocks_worker.transports.gaps import Hole, Seen, Window, overflow_windows
from blocks_worker.transports.pubnub.history import Found
from blocks_worker.transports.pubnub.outcomes import CallFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks_worker.concurrency import Clock
    from blocks_worker.transports.base import Received
    from blocks_worker.transports.inbox import Inbox
    from blocks_worker.transports.pubnub.history import History
    from blocks_worker.transports.replies import Event, Reply

_logger = logging.getLogger(__name__)

#: Seconds a hole in a producer's numbers may close by itself.
HOLE_PATIENCE = 0.5
#: Seconds between two looks into the history of one channel for a hole or a moved region.
LOOK_INTERVAL = 10.0
#: Fills that fail in a row before the reader goes on without.
FILL_TRIES = 3
#: Channels whose newest message is remembered.
WITNESSES = 1000
#: What a gap or a status counts in the queue, bytes.
NOTE_SIZE = 64


class Flow:
    """Hold the position of a subscription and hand over what comes."""

    def __init__(
        self,
        inbox: Inbox,
        history: History,
        *,
        retention_limit: int,
        wake_channel: str,
        clock: Clock,
        counters: dict[str, int],
    ) -> None:
        self.lock = threading.Lock()
        self.position = 0
        self.region = 0
        self._inbox = inbox
        self._history = history
        self._retention_limit = retention_limit
        self._wake_channel = wake_channel
        self._clock = clock
        self._counters = counters
        self._seen = Seen()
        self._newest: dict[str, int] = {}
        self._looked: dict[str, float] = {}
        self._holes: dict[Hole, float] = {}
        self._failed_fills = 0

    def start(self, reply: Reply, channels: Sequence[str], *, saved: int | None, late: bool) -> None:
        """Begin where the handshake says; go back to the saved position first.

        A late one comes after the owner was told that reading has begun: some may be missing.
        """
        if saved is not None:
            self._settle([Window(channel, saved, reply.position) for channel in channels], ())
        elif late:
            self._put((self._gap(Window(channel, 0, reply.position), filled=False), NOTE_SIZE) for channel in channels)
        self.position, self.region = reply.position, reply.region

    def take(self, reply: Reply, channels: Sequence[str], *, advance: bool = True) -> None:
        """Hand over what a poll of these channels brought, after what it left out.

        Without `advance` the next poll starts from the same position again.

        Raises:
            CallFailedError: what it left out could not be asked for now; the same poll is to be made again.
        """
        moved = bool(self.region) and reply.region != self.region
        live = [event for event in reply.events if event.channel != self._wake_channel]
        self._settle(self._cut(reply, live, channels), live)
        if moved:
            self._look_back(channels, max((event.position for event in live), default=reply.position))
        self.region = reply.region
        if advance:
            self.position = max(self.position, reply.position)
        self._close_holes()

    def greet(self, reply: Reply, channels: Sequence[str], missed: Sequence[Window]) -> None:
        """Use an answer that came without waiting, whose position is not the next one.

        It tells whether the network is another, and that `missed` windows may be read now.
        """
        if self.region and reply.region != self.region:
            self._look_back(channels, reply.position)
            self.region = reply.region
        self._settle(missed, ())

    def jump(self, until: int, channels: Sequence[str]) -> None:
        """Go to a position without a poll: read the history up to there, round what cannot be read."""
        if until < self.position:  # the network's own time went back: it knows nothing of our position
            windows = [Window(channel, until, self.position) for channel in channels]
            self._put((self._gap(window, filled=False), NOTE_SIZE) for window in windows)
        self._settle([Window(channel, self.position, until) for channel in channels], ())
        self.position = until

    def next_look(self) -> float | None:
        """Return the monotonic time at which a hole is to be looked after."""
        return min(list(self._holes.values()), default=None)

    def _cut(self, reply: Reply, live: Sequence[Event], channels: Sequence[str]) -> list[Window]:
        """Return the windows a reply that is full may have left out; this one is never skipped."""
        if reply.total < self._retention_limit:
            return []
        self._count("overflows")
        pairs = [(event.channel, event.position) for event in live]
        pairs.extend((event.channel, event.position) for event in reply.events if event.channel == self._wake_channel)
        return overflow_windows(list(channels), self.position, pairs)

    def _settle(self, windows: Sequence[Window], live: Iterable[Event]) -> list[Found]:
        """Fill the windows and hand over what they and the reply hold, in the order of the network."""
        found = self._fill([window for window in windows if window.until > window.since])
        self._put((self._gap(each.window, filled=each.complete), NOTE_SIZE) for each in found)
        events = [event for each in found for event in each.events]
        self._hand_over([*events, *live])
        return found

    def _fill(self, windows: Sequence[Window]) -> list[Found]:
        if not windows:
            return []
        try:
            found = self._history.fill(windows)
        except CallFailedError:
            self._failed_fills += 1
            if self._failed_fills < FILL_TRIES:
                raise
            found = [Found(window, complete=False) for window in windows]
        self._failed_fills = 0
        return found

    def _look_back(self, channels: Sequence[str], until: int) -> None:
        """Fill after the network moved: it may have lost what it had, and only a message we know of tells."""
        for channel in channels:
            window = Window(channel, self.position, until)
            complete = self._may_look(channel) and self._fill_again(window) and self._is_kept(channel)
            self._put([(self._gap(window, filled=complete), NOTE_SIZE)])

    def _fill_again(self, window: Window) -> bool:
        """Fill one window for a reason that may repeat; tell whether nothing is missing. A failure may be repeated."""
        try:
            found = self._fill([window] if window.until > window.since else [])
        except CallFailedError:
            del self._looked[window.channel]
            raise
        self._hand_over([event for each in found for event in each.events])
        return all(each.complete for each in found)

    def _is_kept(self, channel: str) -> bool:
        """Tell whether the newest message known of a channel is still in its history; no message tells nothing."""
        newest = self._newest.get(channel)
        try:
            return newest is not None and self._history.has(channel, newest)
        except CallFailedError:
            return False

    def _close_holes(self) -> None:
        """Look after holes that did not close by themselves."""
        now = self._clock.monotonic()
        self._holes = {hole: self._holes.get(hole, now + HOLE_PATIENCE) for hole in self._seen.holes()}
        for hole in [hole for hole, due in self._holes.items() if due <= now]:
            if not self._may_look(hole.channel):
                self._holes[hole] = self._looked[hole.channel] + LOOK_INTERVAL
                continue
            self._fill_again(Window(hole.channel, hole.since, hole.until - 1))
            rest = [left for left in self._seen.holes() if left.is_within(hole)]
            window = Window(hole.channel, hole.since, hole.until)
            self._put([(self._gap(window, filled=not rest), NOTE_SIZE)])
            for left in rest:
                self._seen.give_up(left)
            del self._holes[hole]

    def _may_look(self, channel: str) -> bool:
        """Tell whether a channel's history may be looked into now, for a reason that may repeat without end."""
        now = self._clock.monotonic()
        if now - self._looked.get(channel, float("-inf")) < LOOK_INTERVAL:
            return False
        self._looked = {name: when for name, when in self._looked.items() if now - when < LOOK_INTERVAL}
        self._looked[channel] = now
        return True

    def _hand_over(self, events: Iterable[Event]) -> None:
        for event in sorted(events, key=lambda event: event.position):
            if self._seen.publish(event.channel, event.position):
                self._put(self._open(event))
            else:
                self._count("duplicates")

    def _open(self, event: Event) -> list[tuple[Received, int]]:
        """Return the new messages of a publish, with their sizes."""
        try:
            opened = open_envelope(event.payload)
        except InvalidMessageError as error:
            self.dead_letter(error.reason, event.channel, event.position)
            return []
        if len(self._newest) >= WITNESSES:  # a wildcard has channels without end
            self._newest.clear()
        self._newest[event.channel] = max(event.position, self._newest.get(event.channel, 0))
        size = opened.size // len(opened.bodies) + NOTE_SIZE
        messages: list[tuple[Received, int]] = []
        for number, body in enumerate(opened.bodies, opened.first):
            if self._seen.message(event.channel, opened.producer, number, event.position):
                messages.append((Message(event.channel, body, event.position, opened.producer, number), size))
            else:
                self._count("duplicates")
        self._count("messages", len(messages))
        return messages

    def forget(self, channels: Iterable[str]) -> None:
        """Drop what is known of channels that are no longer read."""
        for channel in channels:
            self._newest.pop(channel, None)

    def dead_letter(self, reason: str, channel: str, position: int) -> None:
        """Count a message that is set aside; the log gets the first of its kind, the second, the fourth and so on."""
        self._count("dead_letters")
        number = self._count(f"dead_letter.{reason}")
        if number & (number - 1) == 0:
            fields = {"reason": reason, "channel": channel, "position": position, "number": number}
            _logger.warning("transport_dead_letter", extra=fields)

    def _gap(self, window: Window, *, filled: bool) -> Gap:
        self._count("gaps_filled" if filled else "gaps_open")
        return Gap(window.channel, window.since, window.until, filled)

    def _put(self, items: Iterable[tuple[Received, int]]) -> None:
        self._inbox.put(items)

    def _count(self, name: str, number: int = 1) -> int:
        self._counters[name] = self._counters.get(name, 0) + number
        return self._counters[name]
