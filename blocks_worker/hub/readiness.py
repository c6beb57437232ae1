"""What has to hold for the hub to serve: a ledger that is written and swept, and a network that takes connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError
from blocks_worker.observability.conditions import Condition

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock
    from blocks_worker.hub.network.network import LocalNetwork
    from blocks_worker.hub.store.store import Store

#: Seconds without a finished sweep, which writes to the ledger, after which the hub counts as stuck.
SWEPT_LATELY = 10.0


class Readiness:
    """Look whether the hub can serve; safe from any thread."""

    def __init__(self, store: Store, network: LocalNetwork, clock: Clock) -> None:
        self._store = store
        self._network = network
        self._clock = clock
        self._swept_at = clock.monotonic()

    def swept(self) -> None:
        """Take note of a sweep that was committed."""
        self._swept_at = self._clock.monotonic()

    def conditions(self) -> list[Condition]:
        """Return the conditions."""
        fault = self._fault()
        silence = self._clock.monotonic() - self._swept_at
        listens = self._network.listens
        return [
            Condition("ledger", fault is None, "it can be read and written" if fault is None else str(fault)),
            Condition("sweeps", silence <= SWEPT_LATELY, f"the last one was {silence:.1f} s ago"),
            Condition("network", listens, "it takes connections" if listens else "it takes no connections"),
        ]

    def _fault(self) -> StoreError | None:
        """Return what is wrong with the ledger."""
        try:
            self._store.read(lambda ledger: ledger.published())
        except StoreError as error:
            return error
        return self._store.fault()
