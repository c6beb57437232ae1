"""An agent's limit over all its instances."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from ledger_world import ANN, World, done

from blocks_worker.protocol.leases import ClaimAnswer
from blocks_worker.protocol.tasks import Problem, RetryPolicy, SubmitAnswer, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.store.ledger import Ledger


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with an agent that may have two tasks at once, and another one without a limit."""
    with World() as made:
        made.add_agent(concurrency_limit=2)
        made.add_agent("free")
        yield made


def offered(world: World, *names: str) -> list[str]:
    """Return which of these are offered or held."""
    return [name for name in names if world.row(name).inc is not None]


def test_no_more_are_offered_over_all_instances(world: World) -> None:
    """[J24] [I12] Whatever room they have together, two are offered; a third waits, and says for what."""
    for name in ("one", "two"):
        world.join(name, concurrency=4)
    world.join("other", agent="free", concurrency=4)
    answers = [world.submit(task_id=f"t{number}").body for number in range(3)]
    world.add("t9", agent_name="free")
    row = world.store.read(lambda ledger: world.tasks.get(ledger, ANN, "t2")).body

    assert offered(world, "t0", "t1", "t2", "t9") == ["t0", "t1", "t9"]
    assert {world.row("t0").inc, world.row("t1").inc} == {"one", "two"}
    assert isinstance(answers[2], SubmitAnswer)
    assert isinstance(row, TaskRow)
    assert answers[2].waits_for == row.waits_for == "limit"


def test_what_ends_makes_room(world: World) -> None:
    """With the end, the loss or the refusal of one the next is offered in the same moment."""
    holder = world.join("one", concurrency=4)
    lease = world.run(holder, "t0")
    world.add("t1")
    world.add("t2")
    world.report(holder, lease, "t0", outcome=done())
    first = offered(world, "t1", "t2")
    world.add("t3")
    world.cancel("t1")

    assert first == ["t1", "t2"]
    assert offered(world, "t2", "t3") == ["t2", "t3"]


def test_what_takes_no_slot_does_not_count(world: World) -> None:
    """A parked run leaves its place to another, and may come back above the limit."""
    holder = world.join("one", concurrency=4)
    for name in ("t0", "t1"):
        world.run(holder, name)
    world.add("t2")
    held = [(name, world.row(name).epoch) for name in ("t0", "t1")]
    world.beat(holder, *held, parked=("t0",))
    world.sweep()
    parked = offered(world, "t0", "t1", "t2")
    world.beat(holder, *held)
    world.add("t3")

    assert parked == ["t0", "t1", "t2"]
    assert offered(world, "t0", "t1", "t2", "t3") == ["t0", "t1", "t2"]


def test_a_broadcast_task_counts_once() -> None:
    """It is one task, to however many it is offered."""
    with World() as world:
        world.add_agent(concurrency_limit=2, expected_instances=0)
        for name in ("one", "two", "three"):
            world.join(name, concurrency=4)
        for number in range(3):
            world.add(f"t{number}")

        assert offered(world, "t0", "t1", "t2") == ["t0", "t1"]


def test_a_full_backlog_counts_the_limit_as_no_room() -> None:
    """Where nothing more may be offered, room in the slots lets nothing more in."""
    with World() as world:
        world.add_agent(concurrency_limit=1, max_pending_backlog=1)
        world.join(concurrency=4)
        world.add("t0")
        world.add("t1")
        reply = world.submit(task_id="t2")

        assert isinstance(reply.body, Problem)
        assert (reply.status, reply.body.code) == (429, "agent_at_capacity")


def test_fifty_who_ask_at_once_get_no_more_than_the_limit(world: World) -> None:
    """[J24] [I12] Submits, claims and ends from fifty threads at once: at no commit more are held than may be."""
    holders = [world.join(f"inc{number}", concurrency=8) for number in range(4)]
    most, failed = [0], []

    def look(ledger: Ledger) -> None:
        held = sum(len(ledger.tasks_of(holder.incarnation)) for holder in holders)
        most[0] = max(most[0], held)

    def one(number: int) -> None:
        try:
            world.add(f"t{number}")
            world.do(look)
            for holder in holders:
                for row in world.do(lambda ledger, by=holder: ledger.tasks_of(by.incarnation)):
                    lease = world.claim(holder, row.id, row.epoch).body
                    world.do(look)
                    if isinstance(lease, ClaimAnswer):
                        world.report(holder, lease.lease, row.id, epoch=row.epoch, outcome=done())
                        world.do(look)
        except Exception as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (failed, most[0]) == ([], 2)


@pytest.mark.parametrize("many", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_many_failures_at_once_are_no_storm(world: World, many: int) -> None:
    """[B22] All tasks fail at the same moment: their next runs are spread, and no more begin than may at once."""
    policy = RetryPolicy(max_attempts=2, initial_delay_sec=5.0)
    holder = world.join(concurrency=64)
    names = [f"t{number}" for number in range(many)]
    for name in names:
        world.add(name, retry_policy=policy)

    def ended_of(state: str) -> int:
        held = world.do(lambda ledger: ledger.tasks_of(holder.incarnation))
        assert len(held) <= 2
        for row in held:
            lease = world.lease(holder, row.id, row.epoch)
            world.report(holder, lease, row.id, epoch=row.epoch, outcome=done(state=state))
        return len(held)

    failed = 0
    while failed < many:
        failed += ended_of("failed")
    assert ended_of("failed") == 0
    world.sweep(2.4)
    completed = [ended_of("completed")]
    while sum(completed) < many:
        world.beat(holder)
        world.sweep(0.26)
        begun = 0
        while now := ended_of("completed"):
            begun += now
        completed.append(begun)

    # Ten of these steps are the half of the pause that is drawn.
    assert (completed[0], len(completed)) == (0, 11)
    assert max(completed) < many / 4
    assert {world.row(name).attempt for name in names} == {2}
