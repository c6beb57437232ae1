"""How long leases may be trusted, and the hub's clock on ours: plain arithmetic, now is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.protocol.leases import Numbers


@dataclass
class Trust:
    """Know until when this instance's leases stand for sure.

    A heartbeat renews them all. What counts is when its request was *begun*: the hub heard of us at some
    moment after that, and counts from there.
    """

    numbers: Numbers
    _renewed: float | None = None

    def renewed(self, begun: float) -> None:
        """Take note of an answered heartbeat that was begun at `begun`; an older one changes nothing."""
        if self._renewed is None or begun > self._renewed:
            self._renewed = begun

    def forgotten(self) -> None:
        """Take note that the hub knows none of our leases."""
        self._renewed = None

    @property
    def trusted_until(self) -> float | None:
        """When trust ends, on the monotonic clock; None before the first answer."""
        if self._renewed is None:
            return None
        return self._renewed + self.numbers.lease_ttl - self.numbers.lease_margin

    def heard_for(self, now: float) -> float | None:
        """Return how long ago the last answered heartbeat began; None before the first, and while nothing is ours."""
        return None if self._renewed is None else now - self._renewed

    def is_suspect(self, now: float) -> bool:
        """Tell whether the hub may have ended our leases without our knowing."""
        if self._renewed is None:
            return False
        return now >= self._renewed + self.numbers.lease_ttl - self.numbers.lease_margin


@dataclass
class HubTime:
    """Turn the hub's moments into ours: its wall clock at one reading of our monotonic clock."""

    hub_ms: int
    at: float

    def monotonic(self, hub_ms: int) -> float:
        """Return the reading of our monotonic clock at a moment of the hub's."""
        return self.at + (hub_ms - self.hub_ms) / 1000

    def hub_now_ms(self, now: float) -> float:
        """Return the hub's time at a reading of our monotonic clock."""
        return self.hub_ms + (now - self.at) * 1000


def beat_interval(asked: float, numbers: Numbers) -> float:
    """Return the seconds between heartbeats: never above a third of a lease's life."""
    return min(asked, numbers.heartbeat_interval, numbers.lease_ttl / 3)
