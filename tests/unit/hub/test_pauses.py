"""Pause and resume in the hub: a flag that outlives everything, told to whom it concerns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import ANN, BOB, World, done

from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.leases import ClaimAnswer, Report, ReportAnswer, ReportEvent
from blocks_worker.protocol.tasks import Problem, TaskPage, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.hub.task_service import Holder


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with an agent."""
    with World() as world:
        world.add_agent()
        yield world


def said(world: World) -> list[tuple[Any, ...]]:
    """Return what the hub said of the pause, with the state that it leads to."""
    events = [event for event in world.events() if event["type"] == "system" and event["status"] != "restarted"]
    return [(event["status"], event.get("state")) for event in events]


def state(world: World, task_id: str = "t1") -> str:
    """Return the state that the owner sees."""
    reply = world.store.read(lambda ledger: world.tasks.get(ledger, ANN, task_id))
    assert isinstance(reply.body, TaskRow)
    return reply.body.state


def reports(world: World, holder: Holder, lease: str, status: str, n: int) -> ReportAnswer:
    """Report that the handler waits, or goes on."""
    body = msgspec.Raw(encode({"type": "system", "status": status}))
    report = Report(task_id="t1", epoch=world.row().epoch, lease=lease, events=[ReportEvent(n=n, body=body)])
    reply = world.do(lambda ledger: world.tasks.report(ledger, holder, report))
    assert isinstance(reply.body, ReportAnswer), reply
    return reply.body


def test_what_waits_is_not_offered_until_it_is_resumed(world: World) -> None:
    """[R-57] A paused task stays with the hub whoever has room, over a sweep too; the resume has it offered at once."""
    world.add()
    assert world.pause().status == 202
    holder = world.join()
    world.sweep(1)

    assert (world.row().state, state(world)) == ("QUEUED", "paused")
    assert world.pause(on=False).status == 202
    assert (world.row().state, state(world)) == ("OFFERED", "pending")
    assert said(world) == [("paused", "paused"), ("resumed", "pending")]
    assert world.claim(holder).status == 200


def test_an_offer_is_withdrawn_by_a_pause(world: World) -> None:
    """[R-57] A claim on its way is refused; nobody runs what is paused, and the next task has the slot."""
    holder = world.join()
    world.add()
    world.add("t2")
    world.pause()

    assert world.claim(holder, epoch=1).status == 409
    assert (world.row().state, world.row("t2").state) == ("QUEUED", "OFFERED")
    assert said(world) == [("paused", "paused")]


def test_a_run_is_told_by_every_way(world: World) -> None:
    """[R-57] By network, heartbeat, report and a claim that is repeated, each time with the number that orders it."""
    holder = world.join()
    lease = world.run(holder)
    world.pause()

    beat = world.told(holder, ("t1", 1)).pauses
    assert [(flag.task_id, flag.epoch, flag.pause, flag.pause_seq) for flag in beat] == [("t1", 1, True, 1)]
    report = world.report(holder, lease, events=(1,)).body
    claim = world.claim(holder).body
    assert isinstance(report, ReportAnswer)
    assert isinstance(claim, ClaimAnswer)
    assert (report.pause, report.pause_seq) == (claim.pause, claim.pause_seq) == (True, 1)

    world.pause(on=False)
    assert [(flag.pause, flag.pause_seq) for flag in world.told(holder, ("t1", 1)).pauses] == [(False, 2)]
    control = [json.loads(one["control"]) for one in world.heard(f"agent.{holder.agent_id}.control")]
    turns = [(one["type"], one["pauseSeq"]) for one in control if "pauseSeq" in one]
    assert turns == [("PauseTask", 1), ("ResumeTask", 2)]


def test_the_owner_sees_paused_when_the_handler_obeys(world: World) -> None:
    """[R-57] A handler that does not wait goes on running, and is shown so; the one that does is paused."""
    holder = world.join()
    lease = world.run(holder)
    world.pause()
    assert state(world) == "running"
    assert said(world) == []

    reports(world, holder, lease, "paused", 1)
    assert state(world) == "paused"
    world.pause(on=False)
    reports(world, holder, lease, "resumed", 2)
    assert state(world) == "running"


def test_a_run_that_waits_takes_no_slot(world: World) -> None:
    """Whoever waits for its resume is held beside the slots, as its worker's list says."""
    holder = world.join()
    world.run(holder)
    world.add("t2")
    world.beat(holder, ("t1", 1), parked=("t1",))
    assert world.row("t2").state == "OFFERED"

    world.lease(holder, "t2")
    world.add("t3")
    world.beat(holder, ("t1", 1), ("t2", 1))
    world.report(holder, world.lease(holder, "t2"), "t2", outcome=done())
    assert world.row("t3").state == "QUEUED"


def test_a_lost_run_that_was_paused_waits_for_its_resume(world: World) -> None:
    """[R-57] The flag is the task's: with the worker gone it is not run again before the resume, and then is. [J14]"""
    world.run(world.join("inc1", instance_id="one"))
    other = world.join("inc2", instance_id="two")
    world.pause()
    world.connect("inc3", instance_id="one")
    assert (world.row().state, state(world)) == ("QUEUED", "paused")

    world.pause(on=False)
    assert world.row().inc == other.incarnation


def test_a_repeat_of_a_pause_is_answered_as_the_first(world: World) -> None:
    """[R-57] The same question gets 200 again; after the resume it gets 409 and changes nothing. [J13]"""
    world.add()

    assert [world.pause(seq=0).status for _ in range(2)] == [202, 200]
    assert [world.pause(on=False, seq=1).status for _ in range(2)] == [202, 200]
    late = world.pause(seq=0)
    assert late.status == 409
    assert isinstance(late.body, Problem)
    assert (late.body.code, late.body.details) == (
        "PauseOutdated",
        {"state": "pending", "pause": False, "pauseSeq": 2},
    )
    assert (world.row().pause, world.row().pause_seq) == (0, 2)


def test_a_pause_of_what_is_over_changes_nothing(world: World) -> None:
    """A task that has ended stays as it is, and its caller is told."""
    world.add()
    world.cancel()
    before = world.row()

    assert world.pause().status == 200
    assert world.row() == before


def test_a_task_of_somebody_else_is_not_there(world: World) -> None:
    """Nobody pauses what is not his."""
    world.add()

    assert world.pause(consumer=BOB).status == 404
    assert world.row().pause == 0


def test_limits_of_time_go_on_while_it_is_paused(world: World) -> None:
    """A paused task expires and is cancelled as any other."""
    world.add("t1", queue_ttl=5)
    world.add("t2")
    world.pause("t1")
    world.pause("t2")
    world.sweep(6)
    world.cancel("t2")

    assert (world.row("t1").state, world.row("t2").state) == ("EXPIRED", "CANCELLED")


def test_the_flag_outlives_the_hub(tmp_path: Path) -> None:
    """[R-57] After a restart of the hub a paused task still waits, and a run is told again."""
    with World(tmp_path / "ledger") as world:
        world.add_agent()
        holder = world.join()
        world.run(holder, "t1")
        world.add("t2")
        world.pause("t1")
        world.pause("t2")
        world.__exit__()
        world.boot()

        assert [flag.pause for flag in world.told(holder, ("t1", 1)).pauses] == [True]
        world.join("inc2", concurrency=5)
        assert world.row("t2").state == "QUEUED"


def test_paused_tasks_are_listed_as_such(world: World) -> None:
    """A list by state shows what waits and what obeys among the paused, and neither among the others."""
    holder = world.join()
    lease = world.run(holder, "t1")
    world.add("t2")
    world.add("t3")
    world.pause("t1")
    world.pause("t2")
    reports(world, holder, lease, "paused", 1)

    def listed(state: str) -> list[str]:
        reply = world.page(state=state)
        assert isinstance(reply.body, TaskPage)
        return sorted(row.task_id for row in reply.body.tasks)

    assert [listed(name) for name in ("paused", "pending", "running")] == [["t1", "t2"], ["t3"], []]
