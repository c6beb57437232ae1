"""Granted offers: the lease comes with the offer where a link is open, and goes back when nobody heard of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import World

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.leases import is_lease
from blocks_worker.protocol.channels import control_channel
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.control import Signed, StartTask
from blocks_worker.protocol.leases import Claim, ClaimAnswer, Report, ReportEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.hub.answers import Reply
    from blocks_worker.hub.task_service import Holder
    from blocks_worker.protocol.control import GrantedLease

SECRET = b"s" * 32


@pytest.fixture
def world() -> Iterator[World]:
    """Give a hub whose instances have links."""
    with World() as world:
        world.is_linked = True
        world.add_agent()
        yield world


def offers(world: World, holder: Holder) -> list[StartTask]:
    """Return the offers that were said to an instance."""
    said = [one.message for one in world.said if one.channel == control_channel(holder.agent_id)]
    controls = [decode_trusted(Signed, message).control.encode() for message in said]
    return [decode_trusted(StartTask, control) for control in controls if b'"StartTask"' in control]


def granted(world: World, holder: Holder) -> tuple[StartTask, GrantedLease]:
    """Return the last offer, which brought its lease."""
    offer = offers(world, holder)[-1]
    assert offer.granted is not None
    return offer, offer.granted


def report(world: World, holder: Holder, offer: StartTask, **fields: Any) -> Reply:
    """Say something under the lease that came with an offer."""
    assert offer.granted is not None
    item = Report(task_id=offer.task_id, epoch=offer.epoch, lease=offer.granted.lease, **fields)
    return world.do(lambda ledger: world.tasks.report(ledger, holder, item))


def claim(world: World, holder: Holder, offer: StartTask, **fields: Any) -> Reply:
    """Claim an offer, or refuse it."""
    item = Claim(task_id=offer.task_id, epoch=offer.epoch, **fields)
    return world.do(lambda ledger: world.tasks.claim(ledger, holder, item))


def after(world: World, seconds: float, *, sweeps: bool = True) -> None:
    """Let time pass, and the hub look."""
    world.clock.advance(seconds)
    if sweeps:
        world.do(world.sweeper.sweep)


def running() -> list[ReportEvent]:
    """Return a run's first event."""
    return [ReportEvent(n=1, body=msgspec.Raw(b'{"type":"system","status":"running"}'))]


def test_the_lease_comes_with_the_offer(world: World) -> None:
    """One commit takes the task in and gives it; the report that follows needs no claim."""
    holder = world.join()
    assert world.submit(task_id="t1").body.state == "running"
    offer, lease = granted(world, holder)
    row = world.row()

    assert (row.state, row.epoch, row.attempt, row.inc) == ("RUNNING", 1, 1, holder.incarnation)
    assert is_lease(SECRET, lease.lease, "t1", 1, holder.incarnation)
    assert (lease.attempt, lease.max_runtime) == (row.attempt, row.max_runtime)
    assert report(world, holder, offer, events=running()).status == 200


def test_who_claims_it_gets_the_same_lease(world: World) -> None:
    """A worker that trusts no old offer asks, and is told what the offer said."""
    holder = world.join()
    world.add()
    offer, lease = granted(world, holder)
    body = claim(world, holder, offer, have=offer.digest).body

    assert isinstance(body, ClaimAnswer)
    assert (body.lease, body.attempt, body.deadline) == (lease.lease, lease.attempt, lease.deadline)


@pytest.mark.parametrize("fields", [{"delivery": "at_most_once"}, {"task_kind": "pipe", "duration": 1}])
def test_what_may_not_run_again_is_claimed(world: World, fields: dict[str, Any]) -> None:
    """[J6] Nobody holds a task of these kinds before he says that he is there."""
    holder = world.join()
    world.add(**fields)

    assert world.row().state == "OFFERED"
    assert offers(world, holder)[-1].granted is None


def test_a_large_input_is_claimed(world: World) -> None:
    """What does not fit the offer is fetched with the claim."""
    holder = world.join()
    world.add(metadata={"much": "x" * world.numbers.inline_input})

    assert world.row().state == "OFFERED"
    assert offers(world, holder)[-1].granted is None


@pytest.mark.parametrize("sign", ["report", "claim", "list"])
def test_any_sign_acknowledges(world: World, sign: str) -> None:
    """A report, a claim or a list that names it is enough; then only two lists in a row can take it back."""
    holder = world.join()
    world.add()
    offer, _ = granted(world, holder)
    if sign == "report":
        assert report(world, holder, offer, events=running()).status == 200
    elif sign == "claim":
        assert claim(world, holder, offer).status == 200
    else:
        world.beat(holder, ("t1", 1))
    after(world, world.numbers.offer_timeout + 1)

    assert (world.row().state, world.row().epoch) == ("RUNNING", 1)


def test_one_that_nobody_heard_of_goes_back(world: World) -> None:
    """[J1] After the time of an offer it is given anew: the epoch rises, no run counts, and the first one is fenced."""
    holder = world.join()
    world.add()
    lost, _ = granted(world, holder)
    after(world, world.numbers.offer_timeout - 0.5)
    assert world.row().epoch == 1
    after(world, 1)
    row = world.row()

    assert (row.state, row.epoch, row.attempt, row.lost) == ("RUNNING", 3, 1, 0)
    assert report(world, holder, lost, events=running()).status == 409
    assert granted(world, holder)[0].epoch == 3


def test_one_whose_link_ended_goes_back_at_once(world: World) -> None:
    """[J2] What was said on a link that is gone is not waited for; what was acknowledged stays."""
    one, two = world.join("inc1"), world.join("inc2")
    world.add("t1")
    world.add("t2")
    for each in (one, two):
        world.tasks.granted.left([control_channel(each.agent_id)])
    heard = next(offer for each in (one, two) for offer in offers(world, each) if offer.task_id == "t2")
    holder = one if world.row("t2").inc == one.incarnation else two
    assert report(world, holder, heard, events=running()).status == 200
    world.is_linked = False
    after(world, 0.5)

    assert (world.row("t1").state, world.row("t1").epoch) == ("OFFERED", 3)
    assert (world.row("t2").state, world.row("t2").epoch) == ("RUNNING", 1)


def test_a_hub_that_restarts_knows_the_rest_by_the_lists(tmp_path: Path) -> None:
    """[J3] It forgot which were acknowledged: what is listed goes on, what two lists lack goes back."""
    with World(tmp_path / "ledger.sqlite3") as world:
        world.is_linked = True
        world.add_agent()
        holder = world.join(concurrency=2)
        world.add("t1")
        world.add("t2")
        world.store.close(Deadline(10))
        world.boot()
        after(world, 7)
        assert [world.row(name).epoch for name in ("t1", "t2")] == [1, 1]
        after(world, 2, sweeps=False)
        for _ in range(2):
            world.beat(holder, ("t1", 1))

        assert (world.row("t1").state, world.row("t1").epoch) == ("RUNNING", 1)
        assert world.row("t2").epoch > 1


def test_who_has_no_room_gives_it_back(world: World) -> None:
    """[R15] A refusal undoes the lease: it is offered elsewhere, and no run counts."""
    holder, other = world.join("inc1"), world.join("inc2")
    world.add()
    first = holder if world.row().inc == "inc1" else other
    offer, _ = granted(world, first)
    assert claim(world, first, offer, nack="agent_at_capacity").status == 200
    row = world.row()

    assert (row.state, row.attempt, row.lost) == ("RUNNING", 1, 0)
    assert row.inc not in {None, first.incarnation}


def test_a_cancel_finds_it_held(world: World) -> None:
    """What was given is asked to stop; if nothing is heard of it, its end is forced when the offer's time is over."""
    holder = world.join()
    world.add()
    world.cancel()
    assert world.row().state == "CANCELLING"
    offer, _ = granted(world, holder)
    body = claim(world, holder, offer).body
    assert isinstance(body, ClaimAnswer)
    assert body.cancel
    world.add("t2")
    after(world, 1)
    assert report(world, holder, offer, release=True).status == 200
    world.cancel("t2")
    after(world, world.numbers.offer_timeout + 1)

    assert (world.row("t1").state, world.row("t2").state) == ("CANCELLED", "CANCELLED")
