"""Tasks of a broadcast agent: offered to all who have room at once, run by the first of them, one run at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ledger_world import World, done
from sqlalchemy import update

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.store.schema import agent
from blocks_worker.protocol.leases import ReportAnswer
from blocks_worker.protocol.lifecycle import EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.hub.task_service import Holder

NAMES = ("one", "two", "three")


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with a broadcast agent."""
    with World() as world:
        world.add_agent(expected_instances=0)
        yield world


@pytest.fixture
def three(world: World) -> list[Holder]:
    """Be its three instances, each with one slot."""
    return [world.join(name) for name in NAMES]


def told(world: World, holder: Holder) -> list[tuple[str, str, int]]:
    """Return the control messages of an instance that name a task."""
    control = [json.loads(one["control"]) for one in world.heard(f"agent.{holder.agent_id}.control")]
    return [(one["type"], one["taskId"], one["epoch"]) for one in control if "taskId" in one]


def asked(world: World, task_id: str = "t1") -> list[str]:
    """Return who may claim the task."""
    row = world.row(task_id)
    return world.store.read(lambda ledger: ledger.offered_to(row))


def test_all_are_asked_and_the_first_runs_it(world: World, three: list[Holder]) -> None:
    """Each gets the offer of the same epoch; one claim is taken, the others are refused, told at once. [D-10] [B19]"""
    world.add()

    assert [told(world, each) for each in three] == [[("StartTask", "t1", 1)]] * 3
    assert (world.row().inc, asked(world)) == (EVERYBODY, sorted(NAMES))
    assert [world.claim(each).status for each in (three[1], three[0], three[2], three[1])] == [200, 409, 409, 200]
    assert (world.row().inc, world.row().attempt) == ("two", 1)
    assert [told(world, each)[1:] for each in three] == [[("WithdrawTask", "t1", 1)], [], [("WithdrawTask", "t1", 1)]]


def test_only_the_winner_speaks(world: World, three: list[Holder]) -> None:
    """A report of another one is fenced, whatever lease it shows; the winner's end is the one end. [D-10]"""
    world.add()
    lease = world.lease(three[0])

    assert world.report(three[1], lease, events=(1,), outcome=done(1)).status == 409
    assert world.report(three[0], lease, events=(1,), outcome=done(1)).status == 200
    assert [event["type"] for event in world.events()] == ["progress", "terminal"]


def test_who_is_outrun_is_no_fenced_writer(world: World, three: list[Holder]) -> None:
    """The claims that come second count apart, during the run and behind it; one of an old epoch is fenced. [R-54]"""
    world.add()
    lease = world.lease(three[0])
    assert world.claim(three[1], epoch=1).status == 409
    assert (world.store.counts["claims_outrun"], world.store.counts["fenced_writes"]) == (1, 0)

    world.report(three[0], lease, outcome=done())
    assert [world.claim(each, epoch=epoch).status for each, epoch in ((three[2], 1), (three[2], 0))] == [409, 409]
    assert (world.store.counts["claims_outrun"], world.store.counts["fenced_writes"]) == (2, 1)


def test_who_was_not_asked_gets_nothing(world: World, three: list[Holder]) -> None:
    """Who came after the offer, or refused it, does not get the lease."""
    world.add()
    late = world.join("late")

    assert world.claim(three[0], nack="agent_at_capacity").status == 200
    assert [world.claim(each).status for each in (late, three[0])] == [409, 409]
    assert world.claim(three[1]).status == 200


def test_an_offer_takes_a_slot_of_each(world: World, three: list[Holder]) -> None:
    """What comes next waits until the first is taken, and then goes to the others, behind that word."""
    world.add()
    world.add("t2")
    assert (world.row("t2").state, asked(world, "t2")) == ("QUEUED", [])

    world.claim(three[2])
    assert asked(world, "t2") == ["one", "two"]
    ring = [("StartTask", "t1", 1), ("WithdrawTask", "t1", 1), ("StartTask", "t2", 1)]
    assert [told(world, each) for each in three] == [ring, ring, ring[:1]]


def test_who_is_full_is_left_out(world: World, three: list[Holder]) -> None:
    """Who runs something is not asked; who has more slots is asked more often, in the order of the tasks."""
    world.run(three[0])
    world.join("four", concurrency=2)
    world.add("t2")
    world.add("t3")

    assert (asked(world, "t2"), asked(world, "t3")) == (["four", "three", "two"], ["four"])


def test_a_refusal_leaves_the_offer_to_the_others(world: World, three: list[Holder]) -> None:
    """Only the last one brings the task back into the queue, at no cost to it; then all are asked again."""
    world.add()
    for each in three[:2]:
        world.claim(each, nack="agent_at_capacity")
    assert (world.row().state, asked(world)) == ("OFFERED", ["three"])

    world.claim(three[2], nack="agent_at_capacity")
    assert (world.row().state, world.row().inc, world.row().attempt) == ("QUEUED", None, 0)
    world.sweep(2)
    assert (asked(world), world.row().epoch) == (sorted(NAMES), 2)


def test_an_offer_that_nobody_takes_ends(world: World, three: list[Holder]) -> None:
    """After the time of an offer all are told, none is asked for a moment, and then all are asked again."""
    world.add()
    world.sweep(world.numbers.offer_timeout)
    assert world.row().state == "QUEUED"
    assert [told(world, each)[-1] for each in three] == [("WithdrawTask", "t1", 1)] * 3
    assert world.claim(three[0], epoch=1).status == 409

    world.sweep(1.5)
    assert (asked(world), world.row().epoch) == (sorted(NAMES), 2)


@pytest.mark.parametrize(
    ("act", "state", "status"),
    [("cancel", "CANCELLED", 410), ("pause", "QUEUED", 409), ("expire", "EXPIRED", 409)],
)
def test_what_comes_before_the_claim_reaches_all(
    world: World, three: list[Holder], act: str, state: str, status: int
) -> None:
    """A cancel, a pause or the end of the time is told to each who was asked; no claim on its way is taken. [D-10]"""
    world.add(queue_ttl=2.0)
    if act == "expire":
        world.sweep(3)
    else:
        assert getattr(world, act)().status == 202

    assert world.row().state == state
    assert [told(world, each)[-1] for each in three] == [("WithdrawTask", "t1", 1)] * 3
    assert {world.claim(each, epoch=1).status for each in three} == {status}
    assert not [each for name in NAMES for each in world.store.read(lambda ledger, name=name: ledger.tasks_of(name))]


def test_who_goes_leaves_the_offer_to_the_others(world: World, three: list[Holder]) -> None:
    """With the last one the task waits, and who comes then is asked."""
    world.add()
    for each in three[:2]:
        world.beat(each, stopped=True)
    assert asked(world) == ["three"]
    world.beat(three[2], stopped=True)
    assert world.row().state == "QUEUED"

    assert world.claim(world.join("new")).status == 200


def test_a_run_that_is_lost_is_offered_to_all_that_are_left(world: World, three: list[Holder]) -> None:
    """It counts one loss, and what the dead one says afterwards is fenced. [D-10]"""
    world.add()
    lease = world.lease(three[0])
    world.beat(three[0], stopped=True)

    assert (asked(world), world.row().epoch, world.row().lost) == (["three", "two"], 2, 1)
    assert world.claim(three[2]).status == 200
    late = world.report(three[0], lease, epoch=1, outcome=done())
    assert isinstance(late.body, ReportAnswer)
    assert (late.status, late.body.epoch) == (409, 2)


def test_heartbeats_tell_the_offer_and_its_end(world: World, three: list[Holder]) -> None:
    """Where the network lost the message the heartbeat brings the offer; a claim that lost is fenced by it."""
    world.add()

    assert [[offer.task_id for offer in world.told(each).offers] for each in three] == [["t1"]] * 3
    world.claim(three[0])
    assert [[held.task_id for held in world.told(each, ("t1", 1)).fenced] for each in three] == [[], ["t1"], ["t1"]]
    assert world.told(three[1]).offers == []


def test_a_hub_that_starts_again_knows_who_was_asked(tmp_path: Path) -> None:
    """The offer stands in the ledger: after a restart the first claim is still the one that counts."""
    with World(tmp_path / "hub.sqlite3") as world:
        world.add_agent(expected_instances=0)
        holders = [world.join(name) for name in NAMES]
        world.add()
        world.store.close(Deadline(10))
        world.boot()

        assert [world.claim(each).status for each in (holders[1], holders[0])] == [200, 409]


def test_what_instances_say_last_counts(world: World) -> None:
    """An agent that is no broadcast one any more has the next task offered to one instance."""
    world.join("one")
    world.join("two", concurrency=2)
    world.add()
    everybody = asked(world)
    world.do(lambda ledger: ledger.connection.execute(update(agent).values(expected_instances=1)).rowcount)
    world.add("t2")

    assert (everybody, asked(world, "t2")) == (["one", "two"], ["two"])
