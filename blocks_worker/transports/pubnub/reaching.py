"""Whether the network can be reached: one question that needs no right, within a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.transports.pubnub.transport import PubNubTransport

if TYPE_CHECKING:
    from blocks_worker.transports.pubnub.settings import PubNubSettings


class _NoGrants:
    """Be nobody: the time is told to all."""

    def token(self) -> str | None:
        """Return that there is none."""
        return None

    def refresh(self, refused: str | None) -> bool:
        """Say that there is no other one."""
        del refused
        return False


def network_time(settings: PubNubSettings, *, timeout: float) -> int:
    """Return the network's position, which counts 100 ns of unix time, asked for by the transport that workers use.

    Raises:
        TransportError: it was not told in time.
    """
    clock, entropy = Clock(), Entropy()
    transport = PubNubTransport(settings, grants=_NoGrants(), producer=entropy.name(12), clock=clock, entropy=entropy)
    try:
        return transport.position(Deadline(timeout, clock))
    finally:
        transport.close(Deadline(timeout, clock))
