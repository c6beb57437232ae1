from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import World, done
from sqlalchemy import select, update

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.store.schema import event, purge, task, task_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger

WEEK = 7 * 24 * 3600


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as world:
        world.add_agent()
        yield world


def test_an_offer_nobody_takes_goes_on(world: World) -> None:
    """An unclaimed offer is undone at no cost, and somebody else gets the next one."""
    world.join("a")
    world.join("b")
    world.add()
    first = world.row().inc
    world.sweep(5.9)
    assert (world.row().inc, world.row().epoch) == (first, 1)
    world.sweep(0.2)

    assert world.row().inc not in {first, None}
    assert (world.row().epoch, world.row().attempt, world.row().lost) == (2, 0, 0)


def test_two_missed_beats_stop_offers(world: World) -> None:
    """A silent instance keeps its leases and gets nothing new; a beat brings it back."""
    holder = world.join(concurrency=3)
    world.run(holder, "t1")
    world.sweep(13)
    world.add("t2")
    assert (world.row("t1").state, world.row("t2").state) == ("RUNNING", "QUEUED")
    world.beat(holder, ("t1", 1))

    assert world.row("t2").state == "OFFERED"


def test_a_silent_instance_is_lost(world: World) -> None:
    """[P8] After ttl and grace its tasks are offered to others."""
    world.run(world.join("a"))
    other = world.join("b")
    for _ in range(6):
        world.sweep(5.8)
        world.beat(other)
        assert world.row().state == "RUNNING"
    world.sweep(0.4)

    assert (world.row().inc, world.row().lost, world.row().epoch) == ("b", 1, 2)
    assert [event["status"] for event in world.events()] == ["restarted"]


def test_a_dead_process_is_lost_at_once(world: World) -> None:
    """[R10] A process of this host that is gone loses its leases at the next sweep."""
    world.run(world.join("a", pid=7))
    world.processes[7] = True
    world.sweep(1)
    assert world.row().state == "RUNNING"
    world.processes[7] = False
    world.sweep()

    assert (world.row().state, world.row().lost) == ("QUEUED", 1)


def test_a_process_that_cannot_be_seen_has_its_time(world: World) -> None:
    """A process of another host counts as alive until it is silent for too long."""
    world.run(world.join("a", pid=7))
    world.sweep(10)

    assert world.row().state == "RUNNING"


def test_a_hub_that_was_away_ends_no_lease(tmp_path: Path) -> None:
    """[B14] After a boot every instance has its whole time again, however long the hub was down."""
    with World(tmp_path / "ledger.sqlite3") as world:
        world.add_agent()
        holder = world.join()
        lease = world.run(holder)
        world.__exit__()
        world.clock.advance(3 * 30)
        world.boot()
        world.sweep(34)
        assert world.row().state == "RUNNING"
        reply = world.report(holder, lease, outcome=done())
        world.add("t2")
        world.sweep(2)

        assert reply.status == 200
        assert world.store.read(lambda ledger: ledger.instances()) == []


def test_a_jump_of_the_wall_clock_ends_nothing(world: World) -> None:
    """[E13] Somebody sets the machine's clock by an hour, forth and back: no lease, no task ends."""
    world.run(world.join(), max_runtime=60)
    for wall in (3_600_000, -3_600_000):
        world.clock.set_wall(world.clock.wall_ms() + wall)
        world.sweep(1)

    assert world.row().state == "RUNNING"


def test_the_hub_ends_a_silent_run_whose_worker_did_not(world: World) -> None:
    """[C2] A run that says nothing for its `progress_timeout` is ended by the hub too; one that speaks goes on."""
    holder = world.join()
    lease = world.run(holder, progress_timeout=10)
    for n in (1, 2, 3):
        world.sweep(20)
        world.beat(holder, ("t1", 1))
        assert world.report(holder, lease, events=(n,)).status == 200
    for _ in range(2):
        world.sweep(22)
        world.beat(holder, ("t1", 1))
    assert world.row().state == "RUNNING"
    world.sweep(2)
    row, terminal = world.row(), world.events()[-1]

    assert (row.state, terminal["state"], terminal["errorCode"]) == ("EXPIRED", "failed", "timeout")
    assert terminal["reason"] == "progress"
    assert world.report(holder, lease, events=(4,), epoch=1).status == 409


def test_a_hub_that_was_away_hears_before_it_ends_a_silent_run(tmp_path: Path) -> None:
    """[C2] What a run said while the hub was away is on its way: its silence counts from the hub's start."""
    with World(tmp_path / "hub.sqlite3") as world:
        world.add_agent()
        holder = world.join()
        lease = world.run(holder, progress_timeout=10)
        world.clock.advance(300)
        world.store.close(Deadline(10))
        world.boot()
        world.sweep()
        world.beat(holder, ("t1", 1))
        world.sweep(30)
        world.beat(holder, ("t1", 1))

        assert world.report(holder, lease, events=(1,)).status == 200
        world.sweep(30)
        assert world.row().state == "RUNNING"


def test_the_shorter_limit_of_progress_counts_and_a_pipe_has_none(world: World) -> None:
    """[C2] A sender may ask for less than the agent's limit, not for more; of a pipe it is refused."""
    world.add_agent("strict", progress_timeout_sec=30)
    limits = {
        name: world.add(name, agent_name="strict", **fields).progress_timeout
        for name, fields in {"mine": {"progress_timeout": 5}, "more": {"progress_timeout": 90}, "none": {}}.items()
    }

    assert limits == {"mine": 5.0, "more": 30.0, "none": 30.0}
    assert world.add("pipe", agent_name="strict", task_kind="pipe", duration=1).progress_timeout is None
    assert world.submit(task_kind="pipe", duration=1, progress_timeout=3).status == 400


@pytest.mark.parametrize(
    ("limit", "why", "claimed"),
    [
        ({"queue_ttl": 10}, "queue_ttl", False),
        ({"deadline": 1_700_000_010_000}, "deadline", False),
        ({"deadline": 1_700_000_010_000}, "deadline", True),
        ({"max_runtime": 8}, "max_runtime", True),
    ],
)
def test_limits_of_time(world: World, limit: dict[str, Any], why: str, *, claimed: bool) -> None:
    """A task whose time is over ends as failed with the limit's name; its run is fenced and told."""
    holder = world.join()
    lease = world.run(holder, **limit) if claimed else None
    if lease is None:
        world.beat(holder, draining=True)
        world.add(**limit)
    world.sweep(9.9)
    assert world.row().ended is None
    world.sweep(0.2)
    row, terminal = world.row(), world.events()[-1]

    assert (row.state, terminal["state"], terminal["errorCode"], terminal["reason"]) == (
        "EXPIRED",
        "failed",
        "timeout",
        why,
    )
    assert terminal["error"] == "timeout"
    assert lease is None or world.report(holder, lease, outcome=done(), epoch=1).status == 409


def test_a_lease_ends_the_wait(world: World) -> None:
    """The limit of waiting counts to the first lease only."""
    holder = world.join()
    lease = world.run(holder, queue_ttl=5)
    world.report(holder, lease, release=True)
    world.beat(holder, stopped=True)
    world.sweep(6)

    assert world.row().state == "QUEUED"


def test_what_waited_is_routed(world: World) -> None:
    """A sweep finds what an offer left behind."""
    holder = world.join()
    world.add()
    world.claim(holder, nack="no room")
    assert world.row().state == "QUEUED"
    world.sweep(1.1)

    assert world.row().state == "OFFERED"


def test_ended_tasks_go_after_their_time(world: World) -> None:
    """Task, input and events go together after seven days, and a record stays."""
    holder = world.join()
    world.report(holder, world.run(holder), events=(1,), outcome=done(1))
    world.add("t2")
    world.sweep(WEEK - 10)
    assert world.row().state == "COMPLETED"
    world.sweep(20)

    def left(ledger: Ledger) -> list[object]:
        tables = (select(task.c.id), select(task_input.c.task), select(event.c.task))
        return [ledger.connection.execute(query).scalars().all() for query in tables]

    record = world.store.read(lambda ledger: ledger.connection.execute(select(purge)).one())
    assert world.store.read(left) == [["t2"], ["t2"], []]
    assert tuple(record)[2:4] == ("task", 1)


def test_ended_instances_go_after_their_time(world: World) -> None:
    """Rows of instances that ended are not kept for ever."""
    holder = world.join()
    world.beat(holder, stopped=True)
    world.sweep(WEEK + 1)

    assert world.store.read(lambda ledger: ledger.instance("inc1")) is None


def test_one_bad_row_stops_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """[E16] A row that makes no sense is logged and put off; the others are dealt with in the same pass."""
    for number in range(3):
        world.add(f"t{number}", queue_ttl=5)
    world.do(
        lambda ledger: ledger.connection.execute(update(task).where(task.c.id == "t1").values(state="ODD")).rowcount
    )
    world.sweep(6)
    world.sweep(1)

    assert [world.row(f"t{number}").state for number in range(3)] == ["EXPIRED", "ODD", "EXPIRED"]
    assert world.sweeper.failures == 1
    assert caplog.text.count("sweep_row_failed") == 1


def test_one_pass_fills_every_slot_and_no_more(world: World) -> None:
    """Several tasks routed at once are spread by the slots that each offer leaves."""
    holders = [world.join("a", concurrency=2), world.join("b", concurrency=1)]
    for number in range(3):
        world.add(f"t{number}")
    for holder in holders:
        for number in range(3):
            world.claim(holder, f"t{number}", nack="no room")
    assert {world.row(f"t{number}").state for number in range(3)} == {"QUEUED"}
    world.sweep(1.1)

    assert sorted(str(world.row(f"t{number}").inc) for number in range(3)) == ["a", "a", "b"]
