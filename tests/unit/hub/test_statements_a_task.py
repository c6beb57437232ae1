"""How many statements a batch of tasks costs: as many as one task does, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from ledger_world import ANN, World, done

from blocks_worker.protocol.leases import Report, ReportEvent
from blocks_worker.protocol.tasks import SubmitTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.hub.answers import Reply
    from blocks_worker.hub.store.ledger import Ledger

SUBMITTED, REPORTED = 8, 5
EVENTS = [ReportEvent(n=n, body=msgspec.Raw(b'{"type":"system","status":"running"}')) for n in (1, 2, 3)]


@pytest.mark.parametrize("many", [1, 64])
def test_a_batch_costs_what_one_costs(many: int) -> None:
    """Tasks that are taken in together and given with their offers, then reported together, share each statement."""
    with World() as world:
        world.is_linked = True
        world.add_agent()
        holder = world.join(concurrency=many + 1)
        ids = [f"t{number}" for number in range(many)]

        # The first task has the owner's share counted.
        world.add("before")
        wishes = [SubmitTask(agent_name="echo", task_id=each, request_parts=msgspec.Raw(b"[]")) for each in ids]
        submits = [lambda ledger, wish=wish: world.tasks.submit(ledger, ANN, wish) for wish in wishes]
        submitted = _statements(world, submits, ids, 201)
        assert {world.row(each).state for each in ids} == {"RUNNING"}
        leases = {each: world.lease(holder, each) for each in ids}
        said = [Report(task_id=each, epoch=1, lease=leases[each], events=EVENTS, outcome=done(3)) for each in ids]
        reports = [lambda ledger, item=item: world.tasks.report(ledger, holder, item) for item in said]
        reported = _statements(world, reports, ids, 200)
        assert {world.row(each).state for each in ids} == {"COMPLETED"}
    assert (submitted, reported) == (SUBMITTED, REPORTED)


def _statements(world: World, works: Sequence[Callable[[Ledger], Reply]], ids: list[str], status: int) -> int:
    """Return how many statements the works cost, which all go well."""
    before = world.store.counts["statements"]
    written = world.store.write_many(works, about=ids).result(20)
    assert [reply.status for reply in written if not isinstance(reply, Exception)] == [status] * len(ids)
    return world.store.counts["statements"] - before
