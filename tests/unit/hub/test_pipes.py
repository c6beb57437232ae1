"""Pipes in the hub: their time, their slot, and how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import ANN, World, done

from blocks_worker.protocol.leases import ClaimAnswer, Numbers
from blocks_worker.protocol.tasks import EventsAnswer, EventsQuery, TaskPage, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.task_service import Holder

PIPE: dict[str, Any] = {"task_kind": "pipe", "duration": 2}
MINUTE = 60.0


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with an agent."""
    with World(numbers=Numbers(lease_ttl=10_000)) as world:
        world.add_agent()
        yield world


def shown(world: World, task_id: str = "t1") -> TaskRow:
    """Return a task as its owner sees it."""
    query = EventsQuery(task_id=task_id)
    reply = world.store.read(lambda ledger: world.tasks.events(ledger, ANN, query))
    assert isinstance(reply.body, EventsAnswer)
    return reply.body.task


def terminal(world: World, task_id: str = "t1") -> dict[str, Any]:
    """Return what the terminal event tells."""
    (event,) = [event for event in world.events(task_id) if event["type"] == "terminal"]
    return {key: event[key] for key in ("state", "error", "errorCode", "reason", "completionReason") if key in event}


def told(world: World, holder: Holder) -> list[str]:
    """Return the kinds of control messages that the instance was sent, but for probes."""
    said = world.heard(f"agent.{holder.agent_id}.control")
    return [kind for one in said if (kind := json.loads(one["control"])["type"]) != "Probe"]


def test_the_time_of_a_pipe_begins_with_its_first_lease(world: World) -> None:
    """[R-26] A pipe that waits loses nothing of its duration; the lease says when it is over."""
    world.add(**PIPE)
    world.sweep(5 * MINUTE)
    holder = world.join()
    reply = world.claim(holder)

    assert isinstance(reply.body, ClaimAnswer)
    assert reply.body.expires_at == world.steady.now_ms() + 2 * MINUTE * 1000
    assert json.loads(bytes(reply.body.start))["taskKind"] == "pipe"  # type: ignore[arg-type]  # it is there
    assert shown(world).expires_at == reply.body.expires_at


def test_a_pipe_whose_time_is_over_is_ended_by_its_worker_first(world: World) -> None:
    """[R-26] The hub asks for the end, by network and heartbeat; the end is `completed`, `duration_expired`."""
    holder = world.join()
    lease = world.run(holder, **PIPE)
    world.sweep(2 * MINUTE)

    assert world.row().state == "EXPIRING"
    assert shown(world).state == "running"
    assert [flag.reason for flag in world.told(holder, ("t1", 1)).expires] == ["duration_expired"]
    assert told(world, holder) == ["StartTask", "ExpireTask"]

    assert world.report(holder, lease, events=(1,), outcome=done(1, state="expired", reason="x")).status == 200
    assert world.row().state == "EXPIRED"
    assert terminal(world) == {"state": "completed", "completionReason": "duration_expired"}
    assert (shown(world).state, shown(world).reason, shown(world).error) == ("completed", None, None)
    assert shown(world).completion_reason == "duration_expired"


def test_a_pipe_that_nobody_ends_is_ended_by_the_hub(world: World) -> None:
    """[R-26] When its worker does not end it within the grace, the hub does, with the same words."""
    world.run(world.join(), **PIPE)
    world.sweep(2 * MINUTE)
    world.sweep(29)
    assert world.row().state == "EXPIRING"
    world.sweep(1)

    assert world.row().state == "EXPIRED"
    assert terminal(world) == {"state": "completed", "completionReason": "duration_expired"}


def test_a_worker_may_see_the_end_of_the_time_first(world: World) -> None:
    """[R-26] The clock of the worker is as good as the hub's: its word ends the pipe."""
    holder = world.join()
    lease = world.run(holder, **PIPE)

    assert world.report(holder, lease, outcome=done(state="expired", reason="duration_expired")).status == 200
    assert terminal(world) == {"state": "completed", "completionReason": "duration_expired"}


def test_only_the_time_of_a_pipe_runs_out(world: World) -> None:
    """A request whose worker says so is refused: it has `timeout` for that."""
    holder = world.join()
    lease = world.run(holder)

    assert world.report(holder, lease, outcome=done(state="expired")).status == 400
    assert world.row().state == "RUNNING"


def test_the_deadline_of_a_pipe_is_a_failure(world: World) -> None:
    """A deadline before the end of the duration ends a pipe too, but as what it is."""
    holder = world.join()
    lease = world.run(holder, deadline=world.steady.now_ms() + 5_000, **PIPE)
    world.sweep(5)

    assert world.row().state == "EXPIRING"
    assert world.report(holder, lease, outcome=done(state="expired", reason="deadline")).status == 200
    assert terminal(world) == {"state": "failed", "error": "timeout", "errorCode": "timeout", "reason": "deadline"}


def test_a_pipe_that_waits_too_long_fails(world: World) -> None:
    """The longest wait for a first lease ends a pipe as it ends a request."""
    world.add(queue_ttl=5, **PIPE)
    world.sweep(6)

    assert terminal(world) == {"state": "failed", "error": "timeout", "errorCode": "timeout", "reason": "queue_ttl"}


@pytest.mark.parametrize(("state", "recorded"), [("completed", "completed"), ("failed", "completed")])
def test_what_comes_while_it_expires(world: World, state: str, recorded: str) -> None:
    """A result that was made first stands; any other end is the end of the time."""
    holder = world.join()
    lease = world.run(holder, **PIPE)
    world.sweep(2 * MINUTE)
    world.report(holder, lease, outcome=done(state=state, error="x" if state == "failed" else None))

    assert world.row().state == ("COMPLETED" if state == "completed" else "EXPIRED")
    assert terminal(world)["state"] == recorded


def test_a_cancel_before_the_end_of_the_time_stands(world: World) -> None:
    """The first reason stands: cancelled, then over, is cancelled; over, then cancelled, is over."""
    holder = world.join(concurrency=2)
    first, second = world.run(holder, "t1", **PIPE), world.run(holder, "t2", **PIPE)
    world.clock.advance(2 * MINUTE - 10)
    world.cancel("t1", reason="enough")
    world.sweep(10)
    world.cancel("t2", reason="late")

    assert (world.row("t1").state, world.row("t2").state) == ("CANCELLING", "EXPIRING")
    world.report(holder, first, "t1", outcome=done(state="expired", reason="duration_expired"))
    world.report(holder, second, "t2", outcome=done(state="canceled", reason="late"))

    assert terminal(world, "t1") == {"state": "canceled", "reason": "enough"}
    assert terminal(world, "t2") == {"state": "completed", "completionReason": "duration_expired"}


def test_a_terminated_pipe_is_ended_after_its_own_grace(world: World) -> None:
    """Terminate is cancel with its own reason and grace, for a pipe too."""
    world.run(world.join(), **PIPE)
    world.cancel(terminated=True)
    world.sweep(4)
    assert world.row().state == "CANCELLING"
    world.sweep(1)

    assert terminal(world) == {"state": "canceled", "reason": "forced"}


def test_a_lost_pipe_fails(world: World) -> None:
    """[D-13] Its streams cannot go on elsewhere: with its worker gone it has failed, and is not offered again."""
    world.run(world.join("inc1", instance_id="one"), **PIPE)
    world.join("inc2", instance_id="two")
    world.join("inc3", instance_id="one")

    assert terminal(world) == {"state": "failed", "error": "lease_lost", "errorCode": "lease_lost"}


def test_a_pipe_that_is_given_back_is_canceled(world: World) -> None:
    """[D-13] A drain ends it: `canceled`, `drained`."""
    holder = world.join()
    lease = world.run(holder, **PIPE)

    assert world.report(holder, lease, release=True).status == 200
    assert terminal(world) == {"state": "canceled", "reason": "drained"}


def test_a_pipe_that_its_worker_does_not_know_fails(world: World) -> None:
    """[D-13] Taken back after two lists without it, it has failed."""
    holder = world.join()
    world.run(holder, **PIPE)
    for _ in range(3):
        world.clock.advance(9)
        world.beat(holder)

    assert terminal(world) == {"state": "failed", "error": "lease_lost", "errorCode": "lease_lost"}


def test_an_open_pipe_takes_no_slot(world: World) -> None:
    """A pipe whose handler has returned is held without a slot; what waits is offered at once."""
    holder = world.join()
    world.run(holder, **PIPE)
    world.add("t2")
    world.add("t3")
    assert world.row("t2").state == "QUEUED"
    world.beat(holder, ("t1", 1), parked=("t1",))

    assert (world.row("t1").state, world.row("t2").state, world.row("t3").state) == ("RUNNING", "OFFERED", "QUEUED")


def test_a_pipe_has_no_limit_of_one_run(world: World) -> None:
    """The agent's longest run is for requests: a pipe lives as long as its duration."""
    world.run(world.join(), max_runtime=1.0, **PIPE)
    world.sweep(MINUTE)

    assert world.row().state == "RUNNING"


@pytest.mark.parametrize(
    ("kinds", "fields", "status"),
    [
        (["request"], PIPE, 400),
        (["request", "pipe"], PIPE, 201),
        (["pipe"], {}, 400),
        (None, PIPE, 201),
    ],
)
def test_a_card_that_lists_kinds_is_believed(kinds: Any, fields: dict[str, Any], status: int) -> None:
    """A kind of task that the card does not list is refused at the submit; a card that lists none takes both."""
    with World() as world:
        card = {"capabilities": {"taskKinds": kinds}} if kinds else {}
        world.add_agent(card=json.dumps(card))

        assert world.submit(**fields).status == status


def test_pages_show_each_task_under_the_state_that_its_row_shows(world: World) -> None:
    """A list by state holds what is shown in that state: a pipe that lived long enough is completed, not failed."""
    holder = world.join(concurrency=3)
    lease = world.run(holder, "t1", **PIPE)
    world.report(holder, lease, "t1", outcome=done(state="expired", reason="duration_expired"))
    lease = world.run(holder, "t2", **PIPE)
    world.report(holder, lease, "t2", outcome=done(state="expired", reason="deadline"))
    world.run(holder, "t3")

    for state, expected in {"completed": ["t1"], "failed": ["t2"], "running": ["t3"], "paused": []}.items():
        assert listed(world, state) == expected


def listed(world: World, state: str) -> list[str]:
    """Return the tasks that are listed in a state."""
    reply = world.page(state=state)
    assert isinstance(reply.body, TaskPage)
    assert all(row.state == state for row in reply.body.tasks)
    return [row.task_id for row in reply.body.tasks]
