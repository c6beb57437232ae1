"""Which replies of the network are believed: a poll's and a history page's, checked field by field.

The SDK hands over whatever JSON came, so nothing is taken for granted here. A reply that is wrong as a whole
is refused; one bad message in a good reply is set aside and the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Longer digit strings are no position.
POSITION_DIGITS = 19


class ReplyRefusedError(Exception):
    """Say why a reply as a whole is not believed."""


@dataclass(frozen=True)
class Event:
    """One publish as the network delivered it."""

    channel: str
    position: int
    payload: Any


@dataclass(frozen=True)
class Reply:
    """What one poll brought."""

    position: int
    region: int
    events: tuple[Event, ...]
    #: How many messages the network put into the reply, bad ones too: at its limit some may be missing.
    total: int


def read_reply(
    value: object, *, since: int, channels: frozenset[str], refuse: Callable[[str, str, int], None]
) -> Reply:
    """Return what a poll brought; `refuse(reason, channel, position)` is told of each message set aside.

    Raises:
        ReplyRefusedError: the reply as a whole is malformed, or goes back in time.
    """
    if not isinstance(value, dict):
        raise ReplyRefusedError("not an object")
    cursor, listed = value.get("t"), value.get("m")
    if not isinstance(cursor, dict) or not isinstance(listed, list):
        raise ReplyRefusedError("no cursor or no list of messages")
    position, region = read_position(cursor.get("t")), cursor.get("r")
    if position is None or position < since:
        raise ReplyRefusedError("its position is none, or goes back")
    if not isinstance(region, int) or isinstance(region, bool) or region < 1:
        raise ReplyRefusedError("its region is none")
    events = (_read_event(item, channels, refuse) for item in listed)
    return Reply(position, region, tuple(event for event in events if event is not None), len(listed))


def read_position(value: object) -> int | None:
    """Return a position that travels as digits or as a number, None when it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= POSITION_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**POSITION_DIGITS:
        return value
    return None


def _read_event(item: object, channels: frozenset[str], refuse: Callable[[str, str, int], None]) -> Event | None:
    if not isinstance(item, dict):
        refuse("not_an_object", "", 0)
        return None
    channel, stamp = item.get("c"), item.get("p")
    position = read_position(stamp.get("t")) if isinstance(stamp, dict) else None
    if not isinstance(channel, str) or not position or "d" not in item or not isinstance(item.get("k"), str):
        refuse("fields", channel if isinstance(channel, str) else "", position or 0)
        return None
    listed = item.get("b")
    if channel not in channels and not (isinstance(listed, str) and listed in channels):
        refuse("foreign_channel", channel, position)
        return None
    if item.get("e", 0) != 0 or channel.endswith("-pnpres"):
        refuse("not_a_message", channel, position)
        return None
    return Event(channel, position, item["d"])
