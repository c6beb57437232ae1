"""Which tasks the hub gives up, how they are found, and how they are sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import BOB, World, done

from blocks_worker.hub.dead_letters import DEAD_RETENTION_MS
from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.protocol.tasks import Problem, RetryPolicy, SubmitAnswer, TaskPage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.answers import Reply


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as made:
        made.add_agent()
        yield made


def listed(world: World, **wanted: Any) -> list[str]:
    """Return which tasks are on a page."""
    body = world.page(**wanted).body
    assert isinstance(body, TaskPage), body
    return [row.task_id for row in body.tasks]


def lose(world: World, times: int, **fields: Any) -> None:
    """Have the task "t1" lose so many workers."""
    for number in range(times):
        holder = world.join(f"w{number}", pid=number)
        _ = world.run(holder, **fields) if number == 0 else world.lease(holder)
        world.processes[number] = False
        world.sweep()


def fail(world: World, policy: RetryPolicy | None, code: str = "handler_error", runs: int = 1) -> None:
    """Have so many runs of the task "t1" fail."""
    holder = world.join(concurrency=2)
    lease = world.run(holder, retry_policy=policy)
    for number in range(runs):
        world.report(holder, lease, outcome=done(state="failed", error_code=code, digest=f"{number}" * 64))
        if number < runs - 1:
            world.sweep()
            lease = world.lease(holder)


# ------------------------------------------------------------------------------------------------ why
def test_a_policy_that_is_used_up(world: World) -> None:
    """[J21] When the last run that a policy allows has failed, the task is given up, and kept for 30 days."""
    fail(world, RetryPolicy(max_attempts=2, initial_delay_sec=0), runs=2)
    row = world.row()

    assert (row.state, row.dead_reason) == ("FAILED", "attempts")
    assert row.purge_at == (row.ended or 0) + DEAD_RETENTION_MS


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (None, "handler_error"),
        (RetryPolicy(max_attempts=1), "handler_error"),
        (RetryPolicy(max_attempts=2), "invalid_input"),
        (RetryPolicy(max_attempts=2, retry_on=["timeout"]), "handler_error"),
    ],
)
def test_a_failure_that_nobody_wanted_repeated(world: World, policy: RetryPolicy | None, code: str) -> None:
    """Without a policy for it, a failure is an answer and no dead letter: it is kept for 7 days."""
    fail(world, policy, code)
    row = world.row()

    assert (row.state, row.dead_reason) == ("FAILED", None)
    assert row.purge_at == (row.ended or 0) + RETENTION_MS


def test_a_task_that_kills_its_workers_is_poison(world: World) -> None:
    """[B15] At the limit of lost leases the reason is `poison`; what may run once only has `lease_lost`."""
    lose(world, 3)

    assert (world.row().error_code, world.row().dead_reason) == ("lease_lost", "poison")


def test_at_most_once_is_lost_at_once(world: World) -> None:
    """What may not be run again is given up with its first lease, by the reason `lease_lost`."""
    lose(world, 1, delivery="at_most_once")

    assert (world.row().state, world.row().dead_reason) == ("FAILED", "lease_lost")


def test_what_waited_too_long(world: World) -> None:
    """`queue_ttl` makes a dead letter; a deadline is the caller's wish, and a cancel too."""
    world.add("t1", queue_ttl=5)
    world.add("t2", deadline=world.steady.now_ms() + 5000)
    world.add("t3")
    world.cancel("t3")
    world.sweep(6)

    assert [world.row(f"t{number}").dead_reason for number in (1, 2, 3)] == ["queue_ttl", None, None]


def test_a_result_that_comes_late_is_no_dead_letter(world: World) -> None:
    """Who completes a task whose lease was lost ends it with a result."""
    holder = world.join(pid=1)
    lease = world.run(holder, retry_policy=RetryPolicy(max_attempts=2))
    world.processes[1] = False
    world.sweep()
    world.report(holder, lease, outcome=done())

    assert (world.row().state, world.row().dead_reason) == ("COMPLETED", None)


# ------------------------------------------------------------------------------------------------ found
def test_they_are_listed_by_reason_agent_and_time(world: World) -> None:
    """A page holds what was given up for one reason or any, of one agent, and ended in a span of time."""
    lose(world, 3)
    world.add_agent("other")
    world.add("t2", queue_ttl=5)
    world.add("t3", agent_name="other", queue_ttl=50)
    world.add("t4")
    world.sweep(6)
    between = world.steady.now_ms()
    world.sweep(60)

    assert listed(world, dead="any") == ["t3", "t2", "t1"]
    assert listed(world, dead="poison") == ["t1"]
    assert listed(world, dead="any", agent="other") == ["t3"]
    assert listed(world, dead="any", since=between + 1) == ["t3"]
    assert listed(world, dead="queue_ttl", until=between + 1) == ["t2"]
    assert listed(world, dead="attempts") == []
    assert listed(world, consumer=BOB, dead="any") == []


# ------------------------------------------------------------------------------------------------ again
def new_id(reply: Reply) -> str:
    """Return the id of the task that was made, or made before."""
    assert isinstance(reply.body, SubmitAnswer), reply
    return reply.body.task_id


def test_one_key_sends_a_task_again_once(world: World) -> None:
    """[J22] Under one key there is one new task, whatever ids the calls draw; the dead row stays as it is."""
    lose(world, 3)
    before = world.row()
    replies = [world.retry("t1", name, "mended") for name in ("n1", "n2", None)]

    assert [reply.status for reply in replies] == [201, 200, 200]
    assert {new_id(reply) for reply in replies} == {"n1"}
    assert world.row() == before
    fresh = world.row("n1")
    assert (fresh.retry_of, fresh.lost, fresh.attempt, fresh.dead_reason) == ("t1", 0, 0, None)
    assert world.retry("t1", "n3", "once more").status == 201


def test_a_key_belongs_to_one_dead_letter(world: World) -> None:
    """The same key for another task is refused, although both ask for the same."""
    for name in ("t1", "t2"):
        world.add(name, queue_ttl=5)
    world.sweep(6)
    world.retry("t1", "n1", "mended")
    reply = world.retry("t2", "n2", "mended")

    assert isinstance(reply.body, Problem)
    assert (reply.status, reply.body.code) == (422, "IdempotencyConflict")
