"""Which sweeps are left out: those of a hub at which nothing happens, whose last sweep found nothing ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from blocks_worker.hub.api.batches import written

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store
    from blocks_worker.hub.sweeper import Sweeper

T = TypeVar("T")

#: Sweeps in a row before which nothing was written: an offer that was refused may be made again after a second.
CALM = 3
#: One sweep of so many is made in any case.
NEVER_MORE = 4


class Resting:
    """Be asked before each sweep, on the hub's loop; heartbeats are no event, for they do themselves what follows."""

    def __init__(self, store: Store, instances: InstanceService, sweeper: Sweeper) -> None:
        self._store = store
        self._instances = instances
        self._sweeper = sweeper
        self._written = 0.0
        self._calm = 0
        self._left_out = 0

    @property
    def is_calm(self) -> bool:
        """Whether nothing was written for a while."""
        return self._calm >= CALM

    def leaves_out(self) -> bool:
        """Tell whether the sweep that is due now may be left out."""
        count = self._count()
        self._calm = self._calm + 1 if count == self._written else 0
        self._written = count
        self._left_out = (self._left_out + 1) % NEVER_MORE if self.is_calm and self._sweeper.rests() else 0
        return self._left_out > 0

    async def write(self, work: Callable[[Ledger], T]) -> T:
        """Write something that belongs to a sweep, which is no event."""
        result = await written(self._store, work)
        self.wrote()
        return result

    def wrote(self) -> None:
        """Take note that something was written that belongs to a sweep."""
        self._written += 1

    def _count(self) -> float:
        """Count what was written, heartbeats aside."""
        return self._store.groups.read().sum - self._instances.beats
