"""What a local network is told at its start: its keys, and how much it keeps for how long."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from functools import cached_property

from blocks_worker.hub.network.channels import Bounds

MIB = 1024 * 1024
#: Connections at once, where the process may open twice as many descriptors; else half of what it may.
MOST_CONNECTIONS = 2048


def most_connections() -> int:
    """Return how many connections leave the rest of the process descriptors enough."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


@dataclass(frozen=True)
class Keyset:
    """Name one space of channels: who has both keys may publish and subscribe in it."""

    publish_key: str
    subscribe_key: str


@dataclass(frozen=True)
class NetworkSettings:
    """Bound what the network keeps; times are seconds, limits are messages a channel.

    It need not be much: of what is forgotten here events are in the ledger, control comes with the next heartbeat, and
    frames of a stream are asked of its writer again.

    `retention_*` is what pollers can still get, `history_*` what `fetch_messages` finds. The byte bounds
    hold over all channels of a keyset, with what a channel costs itself: beyond them the channels that rested longest
    are forgotten. What is in both is counted in both. `channel_bytes`
    holds for each channel, in either: one that is flooded forgets its own oldest messages, nobody else's.
    """

    hold: float = 20.0
    retention_limit: int = 100
    retention_age: float = 1200.0
    retention_bytes: int = 4 * MIB
    history_limit: int = 10_000
    history_age: float = 86400.0
    history_bytes: int = 8 * MIB
    channel_bytes: int = 4 * MIB
    #: Further names by which clients may call this server, besides the loopback ones.
    hosts: tuple[str, ...] = ()
    #: Seconds before a join, leave or state change is announced: later than the joiner's handshake.
    presence_delay: float = 0.25
    #: Offer the fault hooks over HTTP too.
    testing: bool = False
    #: One more takes the place of the one that rested longest; where all have a poll held, it is closed.
    connections: int = field(default_factory=most_connections)
    #: For one address; 0: any number; None: three quarters of all, and from this machine any number.
    address_connections: int | None = None

    @cached_property
    def retention(self) -> Bounds:
        """What is kept for pollers."""
        return Bounds(self.retention_limit, self.retention_age, self.retention_bytes, self.channel_bytes)

    @cached_property
    def history(self) -> Bounds:
        """What is kept as history."""
        return Bounds(self.history_limit, self.history_age, self.history_bytes, self.channel_bytes)
