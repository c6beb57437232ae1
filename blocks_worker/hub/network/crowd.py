"""How many connections one address may have at one door: one more is told so and closed, whoever else is there."""

from __future__ import annotations

import logging
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_logger = logging.getLogger(__name__)

#: Seconds between two lines of the log about one address.
SAID_EVERY = 60.0
#: Addresses of which it is remembered when they were logged.
SAID_MOST = 1024
#: Refused connections that may read why at the same time; more are cut without a word.
TOLD_AT_ONCE = 64
#: Seconds that one has for it.
LINGER = 1.0
#: Bits of an IPv6 address that say whose it is: who has one has all that begin so.
_IPV6_PREFIX = 64


class Crowd:
    """Count the connections of each address at one door, on the loop that serves it.

    Args:
        door: its name in the log.
        most: for one address; 0: any number; None: three quarters of all that there may be, and from this machine
            any number.
    """

    def __init__(self, door: str, most: int | None = None) -> None:
        self._door = door
        self._most = most
        #: Connections that were refused.
        self.refused = 0
        self._said: dict[str, float] = {}
        self._told = 0

    def takes(self, address: str, room: int, total: int, there: Callable[[], Iterable[str]], now: float) -> bool:
        """Tell whether one more of this address may stay.

        Args:
            address: where it comes from.
            room: how many connections there may be in all.
            total: how many there are, with this one.
            there: returns their addresses; asked only where they may be too many.
            now: seconds of a monotonic clock.
        """
        whose, is_here = _whose(address)
        most = self._most if self._most is not None else 0 if is_here else room * 3 // 4
        if not most or total <= most or sum(_whose(each)[0] == whose for each in there()) <= most:
            return True
        self.refused += 1
        if now - self._said.get(whose, float("-inf")) >= SAID_EVERY:
            self._said.pop(whose, None)
            self._said[whose] = now
            if len(self._said) > SAID_MOST:
                del self._said[next(iter(self._said))]
            said = {"door": self._door, "from": whose, "most": most, "refused": self.refused}
            _logger.warning("connections_refused", extra=said)
        return False

    def may_tell(self) -> bool:
        """Tell whether one more that was refused may stay to read why; then `has_gone` follows."""
        if self._told >= TOLD_AT_ONCE:
            return False
        self._told += 1
        return True

    def has_gone(self) -> None:
        """Take note that one has read why, or not."""
        self._told -= 1


@lru_cache(4096)
def _whose(address: str) -> tuple[str, bool]:
    """Return whom an address stands for, and whether that is this machine."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:  # a socket without addresses, which only this machine has
        return address, True
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped), found.ipv4_mapped.is_loopback
        if not found.is_loopback:
            return f"{IPv6Address(int(found) >> _IPV6_PREFIX << _IPV6_PREFIX)}/{_IPV6_PREFIX}", False
    return str(found), found.is_loopback
