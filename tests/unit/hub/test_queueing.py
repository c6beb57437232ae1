"""When a new task may first be offered, and how long it may wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import ANN, World, done

from blocks_worker.protocol.tasks import Problem, RetryPolicy, SubmitAnswer, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.answers import Reply


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent whose instance has a slot."""
    with World() as made:
        made.add_agent()
        made.join(concurrency=4)
        yield made


def refused(reply: Reply) -> str:
    """Return why it was refused."""
    assert isinstance(reply.body, Problem), reply
    assert reply.status == 400
    return reply.body.message


# ------------------------------------------------------------------------------------------------ delay
@pytest.mark.parametrize("relative", [True, False])
def test_nobody_is_offered_it_before(world: World, *, relative: bool) -> None:
    """[J23] For the seconds told, or until the moment, it waits, and says for what; then it is offered at once."""
    moment: dict[str, Any] = {"delay": 30.0} if relative else {"not_before": world.steady.now_ms() + 30_000}
    answer = world.submit(task_id="t1", **moment).body
    world.sweep(29.9)
    row = world.store.read(lambda ledger: world.tasks.get(ledger, ANN, "t1")).body
    world.join("late")
    early = world.row()
    world.sweep(0.2)

    assert isinstance(answer, SubmitAnswer)
    assert isinstance(row, TaskRow)
    assert (answer.queued, answer.waits_for, row.waits_for) == (True, "delay", "delay")
    assert (early.state, row.ready_at) == ("QUEUED", early.created + 30_000)
    assert (world.row().state, world.row().ready_at) == ("OFFERED", None)


def test_a_clock_that_jumps_makes_nothing_ready(world: World) -> None:
    """[J23] The wall clock may be set while the hub runs: the delay is measured by a clock that cannot jump."""
    world.add(delay=30.0)
    world.clock.set_wall(world.clock.wall_ms() + 3_600_000)
    world.sweep(1)
    early = world.row().state
    world.sweep(28)
    world.join("late")
    world.sweep(1)

    assert (early, world.row().state) == ("QUEUED", "OFFERED")


@pytest.mark.parametrize("moment", [{"delay": 0.0}, {"not_before": 1}])
def test_what_may_begin_begins(world: World, moment: dict[str, Any]) -> None:
    """No delay, and a moment that is over, are none."""
    assert world.add(**moment).state == "OFFERED"


def test_the_wait_for_a_run_begins_with_the_delays_end(world: World) -> None:
    """`queueTtl` counts from when it may be offered; else what is delayed for longer could never run."""
    row = world.add("t1", delay=60.0, queue_ttl=5)
    world.pause("t1")
    world.sweep(64)
    waits = world.row("t1").state
    world.sweep(2)

    assert row.queue_until == row.created + 65_000
    assert (waits, world.row("t1").reason) == ("QUEUED", "queue_ttl")


def test_a_deadline_ends_what_has_not_begun(world: World) -> None:
    """The deadline is of the whole task: one whose delay is not over ends by it as any other."""
    world.add(delay=60.0, deadline=world.steady.now_ms() + 90_000)
    world.pause()
    world.sweep(91)

    assert (world.row().state, world.row().reason) == ("EXPIRED", "deadline")


def test_a_cancel_ends_what_has_not_begun(world: World) -> None:
    """[I7] It is over at once, and is not offered when its time comes."""
    world.add(delay=5.0)
    world.cancel()
    world.sweep(10)

    assert (world.row().state, world.row().attempt) == ("CANCELLED", 0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"delay": 1.0, "not_before": 1}, "not both"),
        ({"not_before": 2**52}, "a year at most"),
        ({"delay": 60.0, "deadline": 5000}, "the deadline comes before"),
    ],
)
def test_a_delay_that_makes_no_sense(world: World, fields: dict[str, Any], told: str) -> None:
    """It is refused with what to change."""
    if "deadline" in fields:
        fields["deadline"] += world.steady.now_ms()

    assert told in refused(world.submit(**fields))


def test_the_same_again_is_the_same(world: World) -> None:
    """A repeat under one key gets its task, however much later it comes: the delay is said in seconds."""
    first = world.submit(delay=30.0, idempotency_key="k")
    world.clock.advance(5)
    second = world.submit(delay=30.0, idempotency_key="k")

    assert (first.status, second.status) == (201, 200)


# ------------------------------------------------------------------------------------------------ priority
def order(world: World, *names: str) -> list[str]:
    """Return in which order these tasks are offered, one slot at a time."""
    holder = world.join("one", concurrency=1)
    found: list[str] = []
    for _ in names:
        offered = next(name for name in names if world.row(name).state == "OFFERED")
        found.append(offered)
        lease = world.lease(holder, offered)
        world.report(holder, lease, offered, outcome=done())
    return found


@pytest.fixture
def idle() -> Iterator[World]:
    """Be a hub with one agent that nobody runs yet."""
    with World() as made:
        made.add_agent()
        yield made


def test_the_urgent_ones_go_first(idle: World) -> None:
    """Of what came at the same time the higher priority is offered first, the usual one between."""
    for name, priority in (("t1", {}), ("t2", {"priority": 9}), ("t3", {"priority": 0}), ("t4", {"priority": 9})):
        idle.add(name, **priority)

    assert order(idle, "t1", "t2", "t3", "t4") == ["t2", "t4", "t1", "t3"]


def test_nothing_waits_for_ever(idle: World) -> None:
    """[J23] A level is a head start of a minute: nine minutes later the lowest is before the highest that comes."""
    idle.add("t1", priority=0)
    idle.clock.advance(539)
    idle.add("t2", priority=9)
    idle.clock.advance(2)
    idle.add("t3", priority=9)

    assert order(idle, "t1", "t2", "t3") == ["t2", "t1", "t3"]


def test_a_delay_counts_from_when_it_is_over(idle: World) -> None:
    """What was asked for early and begins late has waited for nothing: it goes behind what waits since before."""
    idle.add("t1", delay=100.0)
    idle.clock.advance(50)
    idle.add("t2")
    idle.sweep(60)

    assert order(idle, "t1", "t2") == ["t2", "t1"]


def test_a_retry_goes_behind_what_waits(idle: World) -> None:
    """The rank of a task that failed is that of its next run, with the head start of its priority."""
    holder = idle.join("first", concurrency=1)
    lease = idle.run(holder, retry_policy=RetryPolicy(max_attempts=2, initial_delay_sec=5.0), priority=6)
    idle.report(holder, lease, outcome=done(state="failed"))
    row = idle.row()

    assert (row.priority, row.rank) == (6, (row.ready_at or 0) - 6 * 60_000)
