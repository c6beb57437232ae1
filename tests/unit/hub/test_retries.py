"""Which failure is followed by another run, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import World, done
from support import SeededEntropy

from blocks_worker.hub.retries import pause_before_next
from blocks_worker.protocol.tasks import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.task_service import Holder


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as made:
        made.add_agent()
        yield made


@pytest.fixture
def holder(world: World) -> Holder:
    """Join an instance with two slots."""
    return world.join(concurrency=2)


@pytest.mark.parametrize(("left", "seconds"), [(4, 1), (3, 2), (2, 4), (1, 5)])
def test_the_pause_doubles_up_to_its_most(world: World, holder: Holder, left: int, seconds: int) -> None:
    """[B22] Each is twice as long, none longer than the longest; a half of it is told, the other one drawn."""
    world.run(holder, retry_policy=RetryPolicy(max_attempts=5, initial_delay_sec=1, max_delay_sec=5))
    row = world.row()._replace(retries=left)

    failure = done(state="failed", error_code="handler_error")
    pauses = [pause_before_next(row, failure, SeededEntropy(seed)) or 0 for seed in range(100)]

    assert seconds * 500 <= min(pauses) < seconds * 550
    assert seconds * 950 < max(pauses) <= seconds * 1000
    assert len(set(pauses)) > 80


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"retries": 0}, {}),
        ({"retry": None}, {}),
        ({"state": "CANCELLING"}, {}),
        ({"kind": "pipe"}, {}),
        ({"delivery": "at_most_once"}, {}),
        ({}, {"error_code": "invalid_input"}),
        ({}, {"error_code": "timeout"}),
        ({}, {"state": "canceled"}),
        ({}, {"state": "completed"}),
    ],
)
def test_what_ends_a_task(world: World, holder: Holder, fields: dict[str, Any], told: dict[str, Any]) -> None:
    """Without runs left, told to stop, run once at most, by another code, or with another outcome it is the end."""
    world.run(holder, retry_policy=RetryPolicy(max_attempts=5))
    row, entropy = world.row(), SeededEntropy()

    assert pause_before_next(row, done(state="failed"), entropy) is not None
    assert pause_before_next(row._replace(**fields), done(**{"state": "failed", **told}), entropy) is None


def test_a_failure_is_said_twice(world: World, holder: Holder) -> None:
    """A report that comes again is told the same, until the task is offered again; then its sender is fenced."""
    lease = world.run(holder, retry_policy=RetryPolicy(max_attempts=2))
    outcome = done(state="failed", error="x")
    replies = [world.report(holder, lease, epoch=1, outcome=outcome) for _ in range(2)]
    row = world.row()
    world.sweep(1.5)
    offered = world.row()

    assert [reply.status for reply in replies] == [200, 200]
    assert (row.state, row.retries, row.attempt) == ("QUEUED", 0, 1)
    assert (offered.state, offered.epoch, offered.ready_at) == ("OFFERED", 2, None)
    assert world.report(holder, lease, epoch=1, outcome=outcome).status == 409
    assert [event.get("status") for event in world.events()] == ["queued", "restarted"]


def test_what_waits_for_its_run_waits_in_its_time(world: World, holder: Holder) -> None:
    """It is not offered before, a pause and a deadline are kept meanwhile, and a restart of the hub changes nothing."""
    policy = RetryPolicy(max_attempts=3, initial_delay_sec=10)
    lease = world.run(holder, retry_policy=policy, deadline=world.steady.now_ms() + 60_000)
    world.report(holder, lease, outcome=done(state="failed"))
    world.sweep(4.9)
    assert world.row().state == "QUEUED"
    world.pause()
    world.sweep(5.2)
    assert (world.row().state, world.row().ready_at) == ("QUEUED", None)
    world.pause(on=False)
    assert world.row().state == "OFFERED"
    lease = world.lease(holder)
    world.report(holder, lease, outcome=done(state="failed"))
    world.beat(holder)
    world.sweep(55)

    assert (world.row().state, world.row().reason, world.row().ready_at) == ("EXPIRED", "deadline", None)
