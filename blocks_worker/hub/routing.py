"""Who is offered a task: most free slots first, then who was offered one least recently; or all at once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from blocks_worker.hub.store.records import Candidate


def choose(
    candidates: Iterable[Candidate], *, last_offered: Mapping[str, int], cooling: Container[str] = ()
) -> Candidate | None:
    """Return who gets the next task, or None when nobody has room.

    Args:
        candidates: the agent's instances that take offers.
        last_offered: a number for each incarnation that grows with each offer.
        cooling: incarnations that have just refused an offer.
    """
    open_to = choose_all(candidates, cooling=cooling)
    return min(open_to, key=lambda one: (-one.free, last_offered.get(one.incarnation, 0)), default=None)


def choose_all(candidates: Iterable[Candidate], *, cooling: Container[str] = ()) -> list[Candidate]:
    """Return everybody who has room and has not just refused an offer."""
    return [one for one in candidates if one.free > 0 and one.incarnation not in cooling]
