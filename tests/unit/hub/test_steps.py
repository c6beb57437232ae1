"""Durable steps in the ledger: the first value stays, later runs are given it, and strangers store nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from ledger_world import ANN, BOB, World, done

from blocks_worker.hub.steps import PAGE_BYTES
from blocks_worker.protocol.leases import ClaimAnswer, ReportAnswer
from blocks_worker.protocol.steps import INLINE_STEPS, MAX_STEP, MAX_STEPS, REPORT_STEPS, StepsAnswer
from blocks_worker.protocol.tasks import Problem, PurgedTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.answers import Consumer, Holder, Reply
    from blocks_worker.protocol.steps import Step


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as made:
        made.add_agent()
        yield made


def told(steps: list[Step] | None | msgspec.UnsetType) -> dict[str, bytes]:
    """Return steps as names and values."""
    assert isinstance(steps, list), steps
    return {step.name: bytes(step.value) for step in steps}


def answered(reply: Reply) -> dict[str, bytes]:
    """Return what the answer to a report says of its steps."""
    assert isinstance(reply.body, ReportAnswer), reply
    return told(reply.body.steps)


def shown(world: World, who: Consumer | Holder, task_id: str = "t1") -> dict[str, bytes]:
    """Return all stored steps of a task, as this one reads them page by page."""
    found: dict[str, bytes] = {}
    more = True
    while more:
        after = max(found, default="")
        body = world.store.read(lambda ledger, after=after: world.tasks.steps(ledger, who, task_id, after)).body
        assert isinstance(body, StepsAnswer), body
        assert body.steps
        found.update(told(body.steps))
        more = body.more
    return found


def fill(world: World, holder: Holder, lease: str, count: int, value: bytes = b"1") -> None:
    """Store so many steps."""
    names = [f"s{number:04}" for number in range(count)]
    for start in range(0, count, REPORT_STEPS):
        reply = world.report(holder, lease, steps=dict.fromkeys(names[start : start + REPORT_STEPS], value))
        assert reply.status == 200


def lost(world: World) -> Holder:
    """Have the worker of "t1" be gone; return another one, to whom it is offered."""
    world.processes[1] = False
    world.sweep()
    return world.join("w2", pid=2)


def test_the_first_value_stays(world: World) -> None:
    """[J19] Whoever stores under a name once more, in the same run too, is told what is there."""
    holder = world.join()
    lease = world.run(holder)

    assert answered(world.report(holder, lease, steps={"a": b"1", "b": b"[2]"})) == {"a": b"1", "b": b"[2]"}
    assert answered(world.report(holder, lease, steps={"a": b"9"})) == {"a": b"1"}
    assert shown(world, ANN) == {"a": b"1", "b": b"[2]"}


def test_a_later_run_is_given_what_is_stored(world: World) -> None:
    """[J19] After the death of its worker the claim of the next one brings the steps; the dead one's are refused."""
    first = world.join("w1", pid=1)
    lease = world.run(first)
    fresh = world.claim(first).body
    world.report(first, lease, steps={"a": b"1"})
    second = lost(world)
    claimed = world.claim(second).body
    zombie = world.report(first, lease, epoch=1, steps={"a": b"9", "b": b"9"})

    assert isinstance(fresh, ClaimAnswer)
    assert isinstance(claimed, ClaimAnswer)
    assert fresh.steps is msgspec.UNSET
    assert told(claimed.steps) == {"a": b"1"}
    assert zombie.status == 409
    assert shown(world, ANN) == {"a": b"1"}


@pytest.mark.parametrize("end", ["release", "failed", "canceled"])
def test_a_step_comes_before_the_end_in_its_report(world: World, end: str) -> None:
    """Steps, events and the end of one report are applied in this order: what was done is stored."""
    holder = world.join()
    lease = world.run(holder)
    outcome = None if end == "release" else done(1, state=end)
    reply = world.report(holder, lease, steps={"a": b"1"}, events=(1,), outcome=outcome, release=outcome is None)

    assert (reply.status, answered(reply)) == (200, {"a": b"1"})
    assert shown(world, ANN) == {"a": b"1"}


def test_a_late_result_stores_no_step(world: World) -> None:
    """Who lost the task may still bring its result, but another run may have been given the steps by then."""
    holder = world.join("w1", pid=1)
    lease = world.run(holder)
    world.processes[1] = False
    world.sweep()
    reply = world.report(holder, lease, steps={"a": b"1"}, outcome=done())

    assert (reply.status, world.row().state) == (200, "COMPLETED")
    assert world.store.read(lambda ledger: ledger.count_steps("t1")) == 0


def test_steps_of_a_report_with_a_hole_are_told_again(world: World) -> None:
    """Steps that came with events that do not fit are stored once; repeated, they are told as they are."""
    holder = world.join()
    lease = world.run(holder)
    hole = world.report(holder, lease, steps={"a": b"1"}, events=(5,))
    again = world.report(holder, lease, steps={"a": b"2"}, events=(1,))

    assert (hole.status, answered(hole)) == (422, {"a": b"1"})
    assert (again.status, answered(again)) == (200, {"a": b"1"})


def test_what_is_too_large_or_too_many_is_refused(world: World) -> None:
    """[J20] The hub holds the bounds for whoever does not; what is refused stores nothing."""
    holder = world.join()
    lease = world.run(holder)
    large = world.report(holder, lease, steps={"ok": b"1", "large": b"1" * (MAX_STEP + 1)})
    fill(world, holder, lease, MAX_STEPS)
    one_more = world.report(holder, lease, steps={"another": b"1"})
    known = world.report(holder, lease, steps={"s0000": b"2"})

    assert isinstance(large.body, Problem)
    assert isinstance(one_more.body, Problem)
    assert (large.status, large.body.details) == (400, {"reason": "too_large"})
    assert (one_more.status, one_more.body.details) == (400, {"reason": "too_many"})
    assert answered(known) == {"s0000": b"1"}
    assert len(shown(world, ANN)) == MAX_STEPS


def test_what_has_steps_is_not_given_with_its_offer(world: World) -> None:
    """[J19] An instance with a link is given a first run at once; the next one is claimed, which brings the steps."""
    world.is_linked = True
    first = world.join("w1", pid=1)
    world.add()
    assert world.row().state == "RUNNING"
    lease = world.lease(first)
    world.report(first, lease, steps={"a": b"1"})
    second = lost(world)
    was = world.row().state
    claimed = world.claim(second).body

    assert was == "OFFERED"
    assert isinstance(claimed, ClaimAnswer)
    assert told(claimed.steps) == {"a": b"1"}


def test_many_steps_do_not_come_with_the_claim(world: World) -> None:
    """[J19] Over 64 KiB in all the claim says so, and who holds the task reads them page by page."""
    first = world.join("w1", pid=1)
    lease = world.run(first)
    value = b'"%s"' % (b"x" * (MAX_STEP - 2))
    fill(world, first, lease, PAGE_BYTES // MAX_STEP + 2, value)
    second = lost(world)
    claimed = world.claim(second).body

    assert isinstance(claimed, ClaimAnswer)
    assert INLINE_STEPS < PAGE_BYTES
    assert claimed.steps is None
    assert set(shown(world, second).values()) == {value}
    assert len(shown(world, second)) == PAGE_BYTES // MAX_STEP + 2


def test_only_owner_and_holder_see_steps(world: World) -> None:
    """Another owner, another instance and one that lost the task are told that there is none."""
    holder = world.join("w1", pid=1)
    lease = world.run(holder)
    world.report(holder, lease, steps={"a": b"1"})
    second = lost(world)
    world.claim(second)
    strangers: list[Consumer | Holder] = [BOB, holder, world.join("w3", pid=3)]
    statuses = [
        world.store.read(lambda ledger, who=who: world.tasks.steps(ledger, who, "t1", "")).status for who in strangers
    ]

    assert statuses == [404, 404, 404]
    assert shown(world, ANN) == shown(world, second) == {"a": b"1"}


@pytest.mark.parametrize("keeps", [True, False])
def test_a_task_that_is_sent_again_begins_with_the_steps(world: World, *, keeps: bool) -> None:
    """[J22] The new task is given copies of the stored steps, unless that is not wanted; the old ones stay."""
    holder = world.join(concurrency=2)
    lease = world.run(holder)
    world.report(holder, lease, steps={"a": b"1"}, outcome=done(state="failed"))
    for _ in range(2):  # a repeat makes no other, and copies nothing again
        assert world.retry("t1", "t2", keep_steps=keeps).status in {200, 201}
    claimed = world.claim(holder, "t2").body

    assert isinstance(claimed, ClaimAnswer)
    assert (told(claimed.steps) if keeps else claimed.steps) == ({"a": b"1"} if keeps else msgspec.UNSET)
    assert shown(world, ANN) == {"a": b"1"}


def test_steps_go_with_their_task(world: World) -> None:
    """A purge deletes what the runs of the task stored; whoever asks is told of the purge."""
    holder = world.join()
    lease = world.run(holder)
    world.report(holder, lease, steps={"a": b"1"}, outcome=done())
    assert isinstance(world.purge().body, PurgedTask)
    reply = world.store.read(lambda ledger: world.tasks.steps(ledger, ANN, "t1", ""))

    assert reply.status == 410
    assert world.store.read(lambda ledger: ledger.count_steps("t1")) == 0
