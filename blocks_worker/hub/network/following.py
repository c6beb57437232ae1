"""Who follows channels without polling: each is told in order what is published, as fast as he takes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from blocks_worker.protocol.link import AHEAD_BYTES, AHEAD_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from blocks_worker.hub.network.channels import Message, Shelf

#: Bytes of payloads that are sent at once; the rest follows in the next turn of the loop.
AT_ONCE = 128 * 1024


class Reader(Protocol):
    """Take what a follower is to be told. It is called on the loop, and never waits."""

    def said(self, messages: Sequence[Message]) -> None:
        """Take what was published, in order."""

    def lost(self, channel: str, since: int, until: int) -> None:
        """Take note that what was published between two positions is gone."""


class Follower:
    """Know where one reader is on each of its channels; what waits for it stays on the shelf, and nowhere else."""

    def __init__(
        self,
        shelf: Shelf,
        reader: Reader,
        table: dict[str, dict[Follower, None]],
        at_end: Callable[[Callable[[], object]], object],
    ) -> None:
        self._shelf = shelf
        self._at_end = at_end
        self._reader = reader
        self._table = table
        self._places: dict[str, int] = {}
        self._woken: dict[str, None] = {}
        self._due = False
        #: What was sent and is not taken yet.
        self._messages = 0
        self._bytes = 0

    def follow(self, places: Mapping[str, int]) -> list[str]:
        """Follow exactly these channels, each after its position; return those that have lost something behind it."""
        self.leave([name for name in self._places if name not in places])
        gone = [name for name, place in places.items() if self._shelf.lost_until(name) > place]
        for name, place in places.items():
            self._places[name] = max(place, self._shelf.lost_until(name))
            self._table.setdefault(name, {})[self] = None
            self.wake(name)
        return gone

    def leave(self, channels: Iterable[str]) -> None:
        """Follow these no more."""
        for name in channels:
            if name in self._places:
                self._unlist(name)

    def wake(self, channel: str) -> None:
        """Look at a channel at the end of the round: what is published in it travels together."""
        self._woken[channel] = None
        if not self._due:
            self._due = True
            self._at_end(self._tell)

    def taken(self, messages: int, size: int) -> None:
        """Send on what waited for its reader."""
        self._messages = max(0, self._messages - messages)
        self._bytes = max(0, self._bytes - size)
        if self._woken:
            self._plan()

    def close(self) -> None:
        """Follow nothing any more."""
        self.leave(list(self._places))
        self._woken.clear()

    def _plan(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._due = False
        found: list[Message] = []
        size = 0
        for channel in list(self._woken):
            if self._messages >= AHEAD_MESSAGES or self._bytes >= AHEAD_BYTES or size >= AT_ONCE:
                break
            del self._woken[channel]
            size += self._read(channel, found)
        if found:
            if len(found) > 1:
                found.sort(key=_by_position)
            self._reader.said(found)
        if self._woken and self._messages < AHEAD_MESSAGES and self._bytes < AHEAD_BYTES:
            self._plan()

    def _read(self, channel: str, found: list[Message]) -> int:
        """Add what is new on a channel; return its bytes."""
        place = self._places[channel]
        lost = self._shelf.lost_until(channel)
        if lost > place:
            self._reader.lost(channel, place, lost)
            place = self._places[channel] = lost
        size = 0
        for message in reversed(self._shelf.after(channel, place, float("-inf"))):
            if size >= AT_ONCE or self._messages >= AHEAD_MESSAGES:
                self._woken[channel] = None
                break
            found.append(message)
            self._places[channel] = message.tt
            size += len(message.payload)
            self._messages += 1
            self._bytes += len(message.payload)
        return size

    def _unlist(self, name: str) -> None:
        del self._places[name]
        self._woken.pop(name, None)
        following = self._table[name]
        del following[self]
        if not following:
            del self._table[name]


def _by_position(message: Message) -> int:
    return message.tt
