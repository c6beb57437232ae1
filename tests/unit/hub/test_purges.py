"""Tasks that their owner has deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import ANN, BOB, Consumer, World, done
from sqlalchemy import select

from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.hub.purges import STUB_LIFE_MS
from blocks_worker.hub.store.schema import event, purge, stub, task, task_input
from blocks_worker.protocol.tasks import EventsQuery, Problem, PurgedTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.answers import Reply


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent, and the task "t1" that completed."""
    with World() as made:
        made.add_agent()
        holder = made.join(concurrency=2)
        lease = made.run(holder, idempotency_key="k")
        made.report(holder, lease, events=(1,), outcome=done(1))
        yield made


def look(world: World, consumer: Consumer = ANN) -> list[Reply]:
    """Look at the task, and at its events."""
    query = EventsQuery(task_id="t1")
    return [
        world.store.read(lambda ledger: world.tasks.get(ledger, consumer, "t1")),
        world.store.read(lambda ledger: world.tasks.events(ledger, consumer, query)),
    ]


def codes(*replies: Reply) -> list[tuple[int, str]]:
    """Return status and word of refusals."""
    return [(reply.status, reply.body.code) for reply in replies if isinstance(reply.body, Problem)]


def test_nothing_of_it_is_left_but_a_stub(world: World) -> None:
    """[J27] Row, input and events are gone; the stub says what it was, and the purge is on record."""
    ended = world.row().ended
    reply = world.purge()

    def left(ledger: Any) -> list[Any]:
        counted = [ledger.connection.execute(select(each)).all() for each in (task, task_input, event)]
        return [*counted, [tuple(row) for row in ledger.connection.execute(select(purge.c.what, purge.c.rule))]]

    assert reply.status == 200
    assert reply.body == PurgedTask(
        task_id="t1",
        agent_name="echo",
        state="completed",
        ended_time=ended or 0,
        purged_time=world.steady.now_ms(),
        purged_by="owner",
        digest="d" * 64,
    )
    assert world.store.read(left) == [[], [], [], [("task", "owner")]]


def test_whoever_asks_for_it_is_told(world: World) -> None:
    """[J27] Its owner gets 410 with the stub, anybody else what he would get of any task that is not there."""
    world.purge()
    replies = look(world)

    assert codes(*replies) == [(410, "TaskPurged")] * 2
    assert isinstance(replies[0].body, Problem)
    assert (replies[0].body.details or {})["purgedBy"] == "owner"
    assert codes(*look(world, BOB), world.purge(consumer=BOB)) == [(404, "NotFound")] * 3
    assert world.purge().status == 200


def test_what_goes_on_is_not_purged(world: World) -> None:
    """[J27] It is refused with what to do first; what is somebody else's is not there."""
    world.add("t2")
    reply = world.purge("t2")

    assert codes(reply) == [(409, "InvalidState")]
    assert isinstance(reply.body, Problem)
    assert "cancel it" in reply.body.message
    assert codes(world.purge("t2", consumer=BOB), world.purge("t9")) == [(404, "NotFound")] * 2


def test_a_submit_that_comes_again_makes_it_not_anew(world: World) -> None:
    """[I8] A late repeat, by its id or by its key, is told of the purge; the key is free once it would have been."""
    world.purge()
    again = [
        world.submit(task_id="t1", idempotency_key="k"),
        world.submit(idempotency_key="k"),
        world.submit(task_id="t1"),
    ]
    foreign = world.submit(BOB, task_id="t1")
    world.clock.advance(RETENTION_MS / 1000 + 1)

    assert codes(*again) == [(410, "TaskPurged")] * 3
    assert codes(foreign) == [(409, "TaskIdInUse")]
    assert world.submit(idempotency_key="k").status == 201


def test_a_stub_goes_too(world: World) -> None:
    """After its 30 days nobody knows of the task any more; a purge by time leaves a stub as well."""
    world.sweep(RETENTION_MS / 1000 + 1)
    told = look(world)
    world.sweep(STUB_LIFE_MS / 1000 + 61)

    assert codes(*told) == [(410, "TaskPurged")] * 2
    assert codes(*look(world)) == [(404, "NotFound")] * 2
    assert world.store.read(lambda ledger: ledger.connection.execute(select(stub)).all()) == []
