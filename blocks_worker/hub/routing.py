"""Who is offered a task: most free slots first, then who was offered one least recently. Pure."""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blocks_worker.hub.store.records import Candidate


class Line:
    """Be the order in which instances are offered tasks, one after the other; to go on looks at few of them.

    Args:
        open_to: the agent's instances that have room.
        last_offered: a number for each incarnation that grows with each offer.
    """

    def __init__(self, open_to: Iterable[Candidate], last_offered: Mapping[str, int]) -> None:
        self._heap = [
            (-one.free, last_offered.get(one.incarnation, 0), place, one) for place, one in enumerate(open_to)
        ]
        heapify(self._heap)

    @property
    def first(self) -> Candidate | None:
        """Who gets the next task; None when nobody has room."""
        if not self._heap or not self._heap[0][0]:
            return None
        return self._heap[0][3]

    def offered(self, number: int, *, taken: bool) -> None:
        """Note the number of an offer to the first; `taken`: it has a slot less."""
        less, _, place, one = self._heap[0]
        heapreplace(self._heap, (less + taken, number, place, one))
