"""One follower of a link: which channels it follows, by which right, and how it is told what is published there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from blocks_worker.protocol.chunks import brought
from blocks_worker.protocol.link import Denied, Followed, Letter, Lost, Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.network.channels import Message
    from blocks_worker.hub.network.following import Follower
    from blocks_worker.hub.network.linked import Seat
    from blocks_worker.protocol.link import Follow, FromHub, Taken


class Speaker(Protocol):
    """Take what a follower is to be told, in order."""

    def say(self, operation: FromHub) -> None:
        """Send something."""

    def say_encoded(self, operation: bytes) -> None:
        """Send what is written already."""

    def denied(self, act: str, key: str, user: str, channels: Sequence[str], why: str) -> None:
        """Have it written down that a channel was refused."""


class Following:
    """Be one follower of a link: its channels, and the right to them."""

    def __init__(self, link: Speaker, number: int) -> None:
        self._link = link
        self._number = number
        self._turn = 0
        self._seat: Seat | None = None
        self._follower: Follower | None = None
        #: What is followed now, each channel after its place of the beginning.
        self._places: dict[str, int] = {}

    @property
    def channels(self) -> list[str]:
        """The channels that are followed."""
        return list(self._places)

    def follow(self, seat: Seat, wish: Follow, life: str) -> None:
        """Follow what is wished, as far as the grant allows it; places of another life mean nothing here."""
        self._turn = wish.turn
        refused, why = seat.not_readable(tuple(wish.channels))
        if why:
            self._link.denied("follow", wish.key, wish.user, refused, why)
        if why and len(refused) == len(wish.channels):
            self._refuse(refused, why)
            return
        if self._follower is None or self._seat is None or self._seat.key != seat.key:
            self.close()
            self._follower = seat.follower(self)
        self._seat = seat
        now = seat.now()
        is_strange = bool(wish.life) and wish.life != life
        self._places = {
            name: now if is_strange else place or now for name, place in wish.channels.items() if name not in refused
        }
        gone = self._follower.follow(self._places)
        if is_strange:
            gone = [name for name, place in wish.channels.items() if place and name not in refused]
        self._link.say(Followed(self._number, wish.turn, life, now, gone))
        if refused:
            self._link.say(Denied(self._number, wish.turn, refused, why))

    def look(self) -> None:
        """Stop where the right to follow is over."""
        if self._follower is None or self._seat is None:
            return
        refused, why = self._seat.not_readable(tuple(self._places))
        if refused:
            self._refuse(refused, why)

    def taken(self, operation: Taken) -> None:
        """Send on what waited for its reader."""
        if self._follower is not None:
            self._follower.taken(operation.messages, operation.size)

    def close(self) -> None:
        """Follow nothing any more."""
        if self._follower is not None:
            self._follower.close()
        self._follower = None

    def said(self, messages: Sequence[Message]) -> None:
        """Send what was published."""
        letters: list[Letter] = []
        for each in messages:
            if not each.is_raw:
                letters.append(Letter(each.channel, each.tt, msgspec.Raw(each.payload)))
                continue
            if letters:
                self._link.say(Said(self._number, letters))
                letters = []
            self._link.say_encoded(brought(self._number, each.tt, each.channel, each.payload))
        if letters:
            self._link.say(Said(self._number, letters))

    def lost(self, channel: str, since: int, until: int) -> None:
        """Say that something is gone."""
        self._link.say(Lost(self._number, channel, since, until))

    def _refuse(self, channels: list[str], why: str) -> None:
        for name in channels:
            self._places.pop(name, None)
        if self._follower is not None:
            self._follower.leave(channels)
        self._link.say(Denied(self._number, self._turn, channels, why))
