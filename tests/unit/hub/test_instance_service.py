from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from ledger_world import World, done

from blocks_worker.hub.instance_service import Registration
from blocks_worker.hub.leases import message_key
from blocks_worker.hub.task_service import Reply
from blocks_worker.protocol.control import Probe, open_signed
from blocks_worker.protocol.leases import Numbers
from blocks_worker.protocol.tasks import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.task_service import Holder


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as world:
        world.add_agent()
        yield world


def code(reply: object) -> tuple[int, str]:
    """Return status and word of a refusal."""
    assert isinstance(reply, Reply)
    assert isinstance(reply.body, Problem)
    return reply.status, reply.body.code


def states(world: World) -> dict[str, str]:
    """Return the instances that are shown, with their states."""
    rows = world.store.read(lambda ledger: world.instances.instances(ledger, "echo"))
    return {row.instance_id: row.state for row in rows}


def test_connect_tells_what_an_instance_needs(world: World) -> None:
    """The answer names the control channel and the key of its messages."""
    registration = world.connect("inc1", instance_id="one")

    assert isinstance(registration, Registration)
    holder = registration.holder
    assert (holder.agent_name, holder.instance_id, holder.incarnation, holder.owner) == ("echo", "one", "inc1", "ann")
    assert registration.control_channel == f"agent.{holder.agent_id}.control"
    assert registration.message_key == message_key(b"s" * 32, "inc1")
    assert states(world) == {"one": "registering"}


def test_connect_again_is_the_same(world: World) -> None:
    """A connect whose answer was lost may be repeated."""
    assert world.connect("inc1") == world.connect("inc1")


def test_an_incarnation_is_one_process_life(world: World) -> None:
    """An incarnation that somebody else uses is refused."""
    world.connect("inc1", instance_id="one")

    assert code(world.connect("inc1", instance_id="two")) == (400, "InvalidInput")


def test_no_offers_before_the_first_beat(world: World) -> None:
    """An instance that has not shown that it listens gets nothing; with the first beat it gets what waits."""
    registration = world.connect("inc1")
    assert isinstance(registration, Registration)
    world.add()
    assert world.row().state == "QUEUED"
    answer = world.told(registration.holder)

    assert [(offer.task_id, offer.epoch, offer.digest) for offer in answer.offers] == [("t1", 1, world.row().digest)]
    assert states(world) == {"inc1": "ready"}


def test_a_newer_incarnation_takes_over(world: World) -> None:
    """[R10] The older process of a name is over at once, and its tasks go on."""
    old = world.join("old", instance_id="one")
    world.run(old)
    new = world.join("new", instance_id="one")

    assert code(world.beat(old)) == (410, "Superseded")
    assert code(world.connect("old", instance_id="one")) == (410, "Superseded")
    assert (world.row().inc, world.row().lost) == (new.incarnation, 1)
    assert states(world) == {"one": "ready"}


def test_an_unknown_incarnation_is_told(world: World) -> None:
    """[R10] Who is not known, lost or stopped is told to come anew."""
    holder = world.join()
    world.beat(holder, stopped=True)
    unknown = type(holder)("x", "echo", "x", "never-seen", "ann")

    assert code(world.beat(holder)) == (410, "IncarnationUnknown")
    assert code(world.beat(unknown)) == (410, "IncarnationUnknown")
    assert states(world) == {}


def test_two_processes_under_one_name_are_stopped(world: World) -> None:
    """[B13] More than five that spoke again after they were superseded: the name is refused, one goes on."""
    holders: list[Holder] = []
    for number in range(7):
        holders.append(world.join(f"inc{number}", instance_id="one"))
        if number:
            world.beat(holders[-2])
    refused = world.connect("inc9", instance_id="one")
    other = world.connect("inc10", instance_id="two")

    assert code(refused) == (403, "Quarantined")
    assert isinstance(other, Registration)
    assert world.beat(holders[-1]).status == 200
    world.clock.advance(301)
    assert isinstance(world.connect("inc11", instance_id="one"), Registration)


def test_plain_restarts_are_not_flapping(world: World) -> None:
    """[R10] Any number of restarts is fine while the older ones are silent. [D10]"""
    for number in range(20):
        world.join(f"inc{number}", instance_id="one")

    assert states(world) == {"one": "ready"}


def test_every_beat_probes_the_bus(world: World) -> None:
    """[R14] The nonce of the answer was said on the control channel too, signed, numbered upwards."""
    holder = world.join()
    nonces = [world.told(holder).nonce for _ in range(2)]
    heard = [
        open_signed(body, message_key(b"s" * 32, "inc1")) for body in world.heard(f"agent.{holder.agent_id}.control")
    ]

    assert [message for _, message in heard[1:]] == [Probe(nonce=nonce) for nonce in nonces]
    assert [number for number, _ in heard] == sorted({number for number, _ in heard})


def test_a_beat_repeats_offers_and_cancels(world: World) -> None:
    """[R5] What the bus may have lost is in every answer until it is dealt with."""
    holder = world.join(concurrency=2)
    lease = world.run(holder, "t1")
    world.add("t2")
    world.cancel("t1", reason="enough")

    for _ in range(2):
        answer = world.told(holder, ("t1", 1))
        assert [offer.task_id for offer in answer.offers] == ["t2"]
        assert [(flag.task_id, flag.epoch, flag.reason) for flag in answer.cancels] == [("t1", 1, "enough")]
    world.report(holder, lease, "t1", outcome=done(state="canceled"))
    assert world.told(holder).cancels == []


def test_a_list_is_compared(world: World) -> None:
    """What is listed and not the instance's any more is told, in its epoch."""
    holder = world.join()
    world.run(holder)
    answer = world.told(holder, ("t1", 1), ("t1", 7), ("never", 1))

    assert [(held.task_id, held.epoch) for held in answer.fenced] == [("t1", 7), ("never", 1)]


def test_a_task_that_two_lists_lack_is_taken_back(world: World) -> None:
    """[R8] A lease whose answer never came is given again: no attempt, no loss, a new epoch."""
    holder = world.join()
    lease = world.run(holder)
    world.clock.advance(7)
    world.told(holder)
    world.told(holder)
    assert world.row().state == "RUNNING"
    world.clock.advance(2)
    world.told(holder)
    world.told(holder, ("t1", 1))
    world.told(holder)
    assert world.row().epoch == 1
    answer = world.told(holder)
    row = world.row()

    assert (row.state, row.epoch, row.attempt, row.lost) == ("OFFERED", 3, 0, 0)
    assert answer.offers == []
    assert world.report(holder, lease, outcome=done(), epoch=1).status == 409
    assert world.lease(holder) != lease
    assert world.report(holder, lease, outcome=done(), epoch=1).status == 409


def test_a_cancelled_task_that_two_lists_lack_ends(world: World) -> None:
    """[R8] Nobody is there to obey: it ends forced."""
    holder = world.join()
    world.run(holder)
    world.cancel()
    world.clock.advance(9)
    world.told(holder)
    world.told(holder)

    assert (world.row().state, world.row().reason) == ("CANCELLED", "forced")


def test_at_most_once_is_not_taken_back(world: World) -> None:
    """[R12] What two lists lack and may start once only fails. [B21]"""
    holder = world.join()
    world.run(holder, delivery="at_most_once")
    world.clock.advance(9)
    world.told(holder)
    world.told(holder)

    assert (world.row().state, world.row().error_code) == ("FAILED", "lease_lost")


def test_draining_takes_nothing_new(world: World) -> None:
    """[R16] A draining instance keeps what it has and is offered nothing."""
    holder = world.join(concurrency=2)
    world.run(holder)
    world.beat(holder, ("t1", 1), draining=True)
    world.add("t2")
    world.beat(holder, ("t1", 1))

    assert (world.row("t1").state, world.row("t2").state) == ("RUNNING", "QUEUED")
    assert states(world) == {"inc1": "draining"}


def test_a_stopped_instance_leaves_nothing_behind(world: World) -> None:
    """The last beat ends the instance: what it ran, was offered or cancelled goes on at once."""
    holder = world.join(concurrency=3)
    for key in ("t1", "t2", "t3"):
        world.add(key)
    world.lease(holder, "t1")
    world.lease(holder, "t2")
    world.cancel("t2")
    world.beat(holder, stopped=True)

    assert [world.row(key).state for key in ("t1", "t2", "t3")] == ["QUEUED", "CANCELLED", "QUEUED"]


def test_presence_counts_by_the_ledger(world: World) -> None:
    """What an instance runs is the hub's own count."""
    holder = world.join(concurrency=3)
    world.run(holder, "t1")
    world.add("t2")
    world.clock.advance(1)
    world.beat(holder, ("t1", 1), active_tasks=99, active_streams=2)
    (row,) = world.store.read(lambda ledger: world.instances.instances(ledger, "echo"))

    assert (row.active_tasks, row.concurrency, row.active_streams) == (1, 3, 2)
    assert row.last_seen == world.steady.now_ms()


def test_more_room_first(world: World) -> None:
    """Tasks are spread over the instances by their free slots."""
    world.join("small", concurrency=1)
    world.join("large", concurrency=3)
    for number in range(4):
        world.add(f"t{number}")

    assert [world.row(f"t{number}").inc for number in range(3)] == ["large", "large", "small"]
    assert {world.row(f"t{number}").inc for number in range(4)} == {"small", "large"}


def test_no_more_than_the_slots(world: World) -> None:
    """[R15] What does not fit waits, and comes in order when there is room."""
    holder = world.join(concurrency=2)
    for number in range(4):
        world.add(f"t{number}")
        world.clock.advance(0.01)
    assert [world.row(f"t{number}").state for number in range(4)] == ["OFFERED", "OFFERED", "QUEUED", "QUEUED"]
    world.report(holder, world.lease(holder, "t1"), "t1", outcome=done())

    assert [world.row(f"t{number}").state for number in (2, 3)] == ["OFFERED", "QUEUED"]


def test_numbers_are_the_hubs() -> None:
    """The limits are those the hub was started with."""
    with World(numbers=Numbers(lease_ttl=2.0, lease_grace=1.0)) as world:
        world.add_agent()
        world.run(world.join())
        world.sweep(2.9)
        assert world.row().state == "RUNNING"
        world.sweep(0.2)

        assert world.row().state == "QUEUED"


def test_an_instance_of_somebody_else_is_offered_nothing(world: World) -> None:
    """[G7] An instance that was there before the agent changed hands serves its own owner only."""
    stranger = world.join("inc1", owner="bob")
    world.add()
    assert (world.row().state, world.told(stranger).offers) == ("QUEUED", [])

    world.join("inc2")

    assert world.row().inc == "inc2"


def test_an_instance_that_comes_and_goes_is_told_seldom(world: World) -> None:
    """Heartbeats that toggle every 3 s for 5 minutes: one told change in 10 s, no lease lost, offers at once. [A18]"""
    world.numbers.heartbeat_interval = 1.5  # missed after 3.75 s
    holder = world.join(concurrency=2)
    world.run(holder)
    stood, told, offered = [], [], 0
    at: list[float] = []
    for turn in range(100):
        if turn % 2:
            world.beat(holder, ("t1", 1))
        else:
            world.do(world.sweeper.sweep)
        stood.append(world.store.read(lambda ledger: ledger.instances()[0].state))
        told.append(states(world)["inc1"])
        if stood[-1] == "ready" and told[-1] == "suspect" and not offered:
            world.add("t2")
            offered = world.row("t2").epoch
        at.append(world.clock.monotonic())
        world.clock.advance(4.0 if turn % 2 else 2.0)
    changes = [at[turn] for turn in range(1, 100) if told[turn] != told[turn - 1]]

    assert sum(one != other for one, other in pairwise(stood)) > 90, "it came and went"
    assert 10 < len(changes) <= 35
    assert all(later - earlier >= 10 for earlier, later in pairwise(changes))
    assert (world.row().state, world.row().epoch, world.row().lost) == ("RUNNING", 1, 0)
    assert offered == 1
    assert [one.state for one in world.store.read(world.instances.seen)] == [told[-1]]
