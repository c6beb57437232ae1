"""What is missing and what is here twice: pure rules over numbers and positions, no network."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as _Numbers

#: Steps of 100 ns in a second: the network's positions are unix time in these.
TICKS = 10_000_000
#: How long publishes are remembered by position, and how many: longer than the network keeps them for pollers, and as
#: many as may be read again to fill one gap.
SEEN_TICKS = 20 * 60 * TICKS
SEEN_PUBLISHES = 20_000
#: Sequences (producer, channel) remembered; the one unused longest is forgotten first.
SEQUENCES = 10_000
#: Runs of numbers one sequence may fall into before its oldest hole is given up: a hostile producer skips numbers.
RUNS = 64

#: Pages of one window.
PAGES = 200
#: A window of at most this many positions (1 ms) whose page cannot be read waits until the rest was read; what is
#: left of the requests then goes into telling the bad row from good ones that were published beside it.
SMALL = 10_000
#: Requests that reading round unreadable rows may take.
SALVAGE_REQUESTS = 60


@dataclass(frozen=True)
class Hole:
    """Numbers of a producer that did not come, between two positions of its channel."""

    channel: str
    producer: str
    since: int
    until: int
    #: The last number before the hole: together with channel and producer it names it.
    after: int

    def is_within(self, other: Hole) -> bool:
        """Tell whether this hole is what is left of another."""
        same = (self.channel, self.producer) == (other.channel, other.producer)
        return same and other.since <= self.since and self.until <= other.until


@dataclass
class Sequence:
    """The numbers seen of one producer on one channel, as runs with the positions of their ends."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    #: Position at which the first and the last number of each run stood.
    first_at: list[int] = field(default_factory=list)
    last_at: list[int] = field(default_factory=list)

    def add(self, number: int, position: int) -> bool:
        """Take note of a number; tell whether it is new."""
        index = bisect_right(self.starts, number) - 1
        if index >= 0 and number <= self.ends[index]:
            return False
        if index >= 0 and number == self.ends[index] + 1:
            self.ends[index], self.last_at[index] = number, position
            self._join(index)
        elif index + 1 < len(self.starts) and number == self.starts[index + 1] - 1:
            self.starts[index + 1], self.first_at[index + 1] = number, position
        else:
            self._insert(index + 1, number, position)
        return True

    def extend(self, first: int, last: int, position: int) -> bool:
        """Take note of numbers that follow the newest one, or are the first ever; tell whether they do."""
        if not self.starts:
            self._insert(0, first, position)
        elif first != self.ends[-1] + 1:
            return False
        self.ends[-1], self.last_at[-1] = last, position
        return True

    def holes(self) -> list[tuple[int, int, int]]:
        """Return, for each hole, the number before it and the positions around it."""
        return [(self.ends[i], self.last_at[i], self.first_at[i + 1]) for i in range(len(self.starts) - 1)]

    def give_up(self, after: int) -> None:
        """Close the hole after this number as if its numbers had come."""
        if after in self.ends[:-1]:
            index = self.ends.index(after)
            self.ends[index] = self.starts[index + 1] - 1
            self._join(index)

    def _insert(self, index: int, number: int, position: int) -> None:
        for column, value in zip(self._columns(), (number, number, position, position), strict=True):
            column.insert(index, value)
        if len(self.starts) > RUNS:
            self.give_up(self.ends[0])

    def _join(self, index: int) -> None:
        """Make one run of this and the next when nothing is between them."""
        if index + 1 < len(self.starts) and self.starts[index + 1] == self.ends[index] + 1:
            self.ends[index], self.last_at[index] = self.ends[index + 1], self.last_at[index + 1]
            for column in self._columns():
                del column[index + 1]

    def _columns(self) -> tuple[list[int], list[int], list[int], list[int]]:
        return self.starts, self.ends, self.first_at, self.last_at


class Seen:
    """Know what came already: publishes by their position, messages by producer and number; both bounded."""

    def __init__(self, *, publishes: int = SEEN_PUBLISHES, sequences: int = SEQUENCES) -> None:
        self._max_publishes = publishes
        self._max_sequences = sequences
        # By position, for the channels of one name are one object: there are many, and no two at a position, but for
        # chance on a network that gives each channel positions of its own.
        self._publishes: dict[int, str | tuple[str, ...]] = {}
        self._positions: deque[int] = deque()
        self._sequences: OrderedDict[tuple[str, str], Sequence] = OrderedDict()
        self._newest = 0
        self._broken: set[tuple[str, str]] = set()

    def publish(self, channel: str, position: int) -> bool:
        """Take note of a publish; tell whether it is new."""
        there = self._publishes.get(position)
        if there is None:
            self._publishes[position] = sys.intern(channel)
            self._positions.append(position)
        elif channel == there or (isinstance(there, tuple) and channel in there):
            return False
        else:
            self._publishes[position] = (*([there] if isinstance(there, str) else there), channel)
        self._newest = max(self._newest, position)
        self._forget_old()
        return True

    def message(self, channel: str, producer: str, number: int, position: int) -> bool:
        """Take note of a logical message; tell whether it is new."""
        key = (channel, producer)
        sequence = self._sequence(key)
        new = sequence.add(number, position)
        if new:
            self._mark(key, sequence)
        return new

    def messages(self, channel: str, producer: str, first: int, count: int, position: int) -> _Numbers[int]:
        """Take note of messages that came together, numbered from `first`; return the numbers of the new ones."""
        numbers = range(first, first + count)
        if self._sequence((channel, producer)).extend(first, first + count - 1, position):
            return numbers
        return [number for number in numbers if self.message(channel, producer, number, position)]

    def _sequence(self, key: tuple[str, str]) -> Sequence:
        sequence = self._sequences.get(key)
        if sequence is None:
            sequence = self._sequences[key] = Sequence()
            if len(self._sequences) > self._max_sequences:
                self._broken.discard(self._sequences.popitem(last=False)[0])
        else:
            self._sequences.move_to_end(key)
        return sequence

    def holes(self) -> list[Hole]:
        """Return every hole of every sequence."""
        return [
            Hole(channel, producer, min(since, until), max(since, until), after)
            for channel, producer in self._broken
            for after, since, until in self._sequences[channel, producer].holes()
        ]

    def give_up(self, hole: Hole) -> None:
        """Treat the numbers of this hole as come: nobody has them."""
        key = (hole.channel, hole.producer)
        sequence = self._sequences.get(key)
        if sequence is not None:
            sequence.give_up(hole.after)
            self._mark(key, sequence)

    def _mark(self, key: tuple[str, str], sequence: Sequence) -> None:
        if len(sequence.starts) > 1:
            self._broken.add(key)
        else:
            self._broken.discard(key)

    def _forget_old(self) -> None:
        horizon = self._newest - SEEN_TICKS
        while self._positions and (len(self._positions) > self._max_publishes or self._positions[0] < horizon):
            del self._publishes[self._positions.popleft()]


@dataclass(frozen=True)
class Window:
    """Positions of one channel after `since` up to and with `until`."""

    channel: str
    since: int
    until: int


def overflow_windows(channels: list[str], since: int, live: list[tuple[str, int]]) -> list[Window]:
    """Return what a reply that was cut at its limit may have left out, given its (channel, position) pairs.

    The limit drops the oldest. Counted per channel or over the whole reply, the part that is missing of a channel
    lies before its first live message; a channel without any may have lost all up to the newest of the reply.
    """
    if not live:
        return []
    newest = max(position for _, position in live)
    first: dict[str, int] = {}
    for channel, position in live:
        first[channel] = min(position, first.get(channel, position))
    windows = [Window(channel, since, first[channel] - 1 if channel in first else newest) for channel in channels]
    return [window for window in windows if window.until > window.since]


def halves(window: Window) -> tuple[Window, Window]:
    """Cut a window in two."""
    middle = (window.since + window.until) // 2
    return Window(window.channel, window.since, middle), Window(window.channel, middle, window.until)


class Search:
    """Choose which part of a window to read next, within a bound of requests."""

    def __init__(self, window: Window) -> None:
        self._pending = [window]
        self._small: list[Window] = []
        self._lost = 0
        self._requests = 0
        #: Whether something could not be read.
        self.salvaging = False

    def next(self) -> Window | None:
        """Return the part to read next; None when all was read, or the requests are used up."""
        if self._requests >= (SALVAGE_REQUESTS if self.salvaging else PAGES):
            return None
        self._requests += 1
        if self._pending:
            return self._pending.pop()
        return self._small.pop() if self._small else None

    def add(self, part: Window) -> None:
        """Have one more part read."""
        self._pending.append(part)

    def unreadable(self, part: Window) -> None:
        """Cut a part that cannot be read in halves, down to the one position that is bad."""
        self.salvaging = True
        width = part.until - part.since
        if width <= 1:
            self._lost += 1
        else:
            (self._small if width <= SMALL else self._pending).extend(halves(part))

    def left(self) -> int:
        """Return how many parts are given up: bad for certain, or not reached."""
        return self._lost + len(self._pending) + len(self._small)
