"""Who waits is offered as soon as there is room; what is not looked for is only what cannot be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec
import pytest
from ledger_world import ANN, World, done

from blocks_worker.hub.dispatch import NACK_COOLDOWN_MS
from blocks_worker.protocol.tasks import SubmitTask

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger


def test_what_found_no_room_is_offered_when_a_run_ends() -> None:
    """A second task waits for the only slot, although nothing waited when the first one came."""
    with World() as world:
        world.add_agent()
        holder = world.join(concurrency=1)
        world.add("t1")
        lease = world.lease(holder, "t1")
        world.add("t2")
        assert world.row("t2").state == "QUEUED"
        world.report(holder, lease, "t1", outcome=done())
        assert world.row("t2").state == "OFFERED"


def test_an_offer_that_was_undone_is_made_again() -> None:
    """That nothing waits is believed only of a transaction that stands as a whole."""
    with World() as world:
        world.add_agent()
        holder = world.join(concurrency=3)
        world.add("t1")
        lease = world.lease(holder, "t1")
        world.tasks.dispatch.refused(holder.incarnation)
        world.add("t2")
        assert world.row("t2").state == "QUEUED"
        world.clock.advance(NACK_COOLDOWN_MS / 1000 + 0.1)

        def fail(ledger: Ledger) -> NoReturn:
            world.tasks.dispatch.route_now(ledger, "echo")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            world.do(fail)
        assert world.row("t2").state == "QUEUED"
        world.report(holder, lease, "t1", outcome=done())
        assert world.row("t2").state == "OFFERED"


def test_more_new_tasks_than_room_wait_for_the_next_end() -> None:
    """Two tasks that are taken in together find one slot: the other one is offered when the first has ended."""
    with World() as world:
        world.add_agent()
        holder = world.join(concurrency=1)
        world.add("before")
        world.report(holder, world.lease(holder, "before"), "before", outcome=done())
        ids = ["t1", "t2"]
        wishes = [SubmitTask(agent_name="echo", task_id=each, request_parts=msgspec.Raw(b"[]")) for each in ids]
        submits = [lambda ledger, wish=wish: world.tasks.submit(ledger, ANN, wish) for wish in wishes]
        world.store.write_many(submits, about=ids).result(20)
        assert sorted(world.row(each).state for each in ids) == ["OFFERED", "QUEUED"]
        world.report(holder, world.lease(holder, "t1"), "t1", outcome=done())
        assert world.row("t2").state == "OFFERED"
