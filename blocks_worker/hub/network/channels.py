"""The messages that a network keeps: timetokens that only rise, and shelves bounded by count, age and bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blocks_worker.protocol.chunks import in_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blocks_worker.concurrency import Clock

#: What a name of presence events ends in.
PRESENCE = "-pnpres"
#: Bytes that a kept message costs besides its payload, about.
OVERHEAD = 400
#: Bytes that a channel costs on a shelf besides its messages: 242 were measured with tracemalloc in CPython 3.11, and
#: tables have room to spare.
CHANNEL = 300


class Timeline:
    """Give timetokens, steps of 100 ns since 1970: each is above the last, whatever the host's clock does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def draw(self) -> int:
        """Return the next timetoken; nobody else ever gets it."""
        self._last = max(self._clock.wall_ticks(), self._last + 1)
        return self._last


@dataclass(slots=True)
class Message:
    """Be one message as published; `payload` and `meta` are JSON, `at` is monotonic, `ttl` seconds.

    Where `is_raw` the payload is a bundle of a stream's bytes.
    """

    tt: int
    channel: str
    payload: bytes | memoryview
    at: float
    publisher: str = ""
    kind: int = 0
    meta: bytes = b""
    custom_type: str = ""
    original: int = 0
    ttl: float | None = None
    is_raw: bool = False

    def text(self) -> bytes:
        """Return the payload as JSON, also where it came as bytes."""
        return in_json(self.payload) if self.is_raw else bytes(self.payload)

    def size(self) -> int:
        """Return about how many bytes it takes."""
        return OVERHEAD + len(self.payload) + len(self.meta)


class Bounds(NamedTuple):
    """Say how much a shelf keeps: messages a channel, seconds, bytes over all channels, and bytes a channel."""

    limit: int
    age: float
    size: int
    channel: int = sys.maxsize


class _Row:
    """Be the messages of one channel, and how many bytes they take."""

    __slots__ = ("lost", "messages", "size")

    def __init__(self, lost: int) -> None:
        # No deque: most channels have few messages, for which it takes room for 64.
        self.messages: list[Message] = []
        self.size = 0
        #: Up to where messages may be gone.
        self.lost = lost

    def drop(self) -> int:
        oldest = self.messages.pop(0)
        size = oldest.size()
        self.lost = oldest.tt
        self.size -= size
        return size

    def keep(self, wanted: Callable[[Message], bool]) -> int:
        """Keep what is wanted; return the bytes that went."""
        before = self.size
        self.messages = list(filter(wanted, self.messages))
        self.size = sum(map(Message.size, self.messages))
        return before - self.size


class Shelf:
    """Keep the newest messages of each channel.

    The channels stand in the order of their last message, so that what rested longest is found at once:
    it goes when its time is over, and before that when the shelf is full.
    """

    def __init__(self) -> None:
        self._channels: OrderedDict[str, _Row] = OrderedDict()
        self._size = 0
        #: Up to where messages of channels that are forgotten are gone.
        self._forgotten = 0

    def put(self, message: Message, bounds: Bounds) -> None:
        """Add a message, which is newer than all others, and drop what is beyond the bounds."""
        row = self._channels.get(message.channel)
        if row is None:
            row = self._channels[message.channel] = _Row(self._forgotten)
            self._size += CHANNEL
        else:
            self._channels.move_to_end(message.channel)
        size, horizon = message.size(), message.at - bounds.age
        row.messages.append(message)
        row.size += size
        self._size += size
        while row.messages and (
            len(row.messages) > bounds.limit or row.messages[0].at < horizon or row.size > bounds.channel
        ):
            self._size -= row.drop()
        while self._size > bounds.size and self._channels:
            self._drop_oldest()

    def expire(self, now: float, age: float) -> None:
        """Drop the channels whose newest message is too old."""
        while self._channels:
            oldest = next(iter(self._channels.values())).messages
            if oldest and oldest[-1].at >= now - age:
                return
            self._forget(next(iter(self._channels)))

    def newest_first(self, channel: str, horizon: float) -> Iterator[Message]:
        """Yield the messages of a channel, the newest first, back to the horizon."""
        for message in reversed(self._of(channel)):
            if message.at < horizon:
                return
            yield message

    def after(self, channel: str, tt: int, horizon: float) -> list[Message]:
        """Return the messages of a channel above a timetoken, in no promised order."""
        found: list[Message] = []
        row = self._channels.get(channel)
        for message in reversed(row.messages) if row is not None else ():
            if message.tt <= tt or message.at < horizon:
                break
            found.append(message)
        return found

    def channels(self) -> Iterator[str]:
        """Yield the names of the channels that have messages, the last written first."""
        return reversed(self._channels)

    def newest(self, channel: str) -> int:
        """Return the newest timetoken of a channel, 0 when it has none."""
        kept = self._of(channel)
        return kept[-1].tt if kept else 0

    def lost_until(self, channel: str) -> int:
        """Return a position up to which messages of a channel may be gone that were kept here; 0 when none is."""
        row = self._channels.get(channel)
        return self._forgotten if row is None else row.lost

    def remove(self, channel: str, above: int, until: int) -> None:
        """Drop the messages of a channel with `above < tt <= until`."""
        row = self._channels.get(channel)
        if row is None:
            return
        self._size -= row.keep(lambda message: not above < message.tt <= until)
        if not row.messages:
            self._forget(channel)

    def _drop_oldest(self) -> None:
        """Drop the oldest message of the channel that rested longest."""
        channel, kept = next(iter(self._channels.items()))
        if kept.messages:
            self._size -= kept.drop()
        if not kept.messages:
            self._forget(channel)

    def _forget(self, channel: str) -> None:
        row = self._channels.pop(channel)
        self._size -= CHANNEL + row.size
        newest = row.messages[-1].tt if row.messages else row.lost
        self._forgotten = max(self._forgotten, newest)

    def _of(self, channel: str) -> Sequence[Message]:
        row = self._channels.get(channel)
        return row.messages if row is not None else ()
