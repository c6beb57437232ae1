from __future__ import annotations

import json
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import ANN, BOB, World, done

from blocks_worker.hub.leases import message_key
from blocks_worker.hub.publications import ENVELOPE_BYTES
from blocks_worker.hub.store.filters import TaskFilter
from blocks_worker.protocol.codec import MAX_BODY, encode
from blocks_worker.protocol.control import CancelRun, StartBody, StartTask, open_signed
from blocks_worker.protocol.leases import ClaimAnswer, LateReport, Report, ReportAnswer, ReportEvent
from blocks_worker.protocol.tasks import (
    MAX_SECONDS,
    CancelAnswer,
    EventsAnswer,
    EventsQuery,
    Problem,
    SubmitAnswer,
    SubmitTask,
    TaskPage,
    TaskRow,
)
from blocks_worker.worker.start_body import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.task_service import Holder, Reply


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as world:
        world.add_agent()
        yield world


def code(reply: Reply) -> str:
    """Return the word of a refusal."""
    assert isinstance(reply.body, Problem), reply
    return reply.body.code


def answer(reply: Reply) -> ReportAnswer:
    """Return the answer to a report."""
    assert isinstance(reply.body, ReportAnswer), reply
    return reply.body


def control(world: World, holder: Holder) -> list[object]:
    """Return the control messages that were said to an instance."""
    key = message_key(b"s" * 32, holder.incarnation)
    return [open_signed(body, key)[1] for body in world.heard(f"agent.{holder.agent_id}.control")]


# ---------------------------------------------------------------------------------------------- submit
def test_submit_waits_when_nobody_is_there(world: World) -> None:
    """A task is taken in and waits while no instance runs."""
    reply = world.submit(task_id="t1")

    assert reply.status == 201
    assert reply.body == SubmitAnswer(
        task_id="t1",
        state="pending",
        owner_id="ann",
        org_id="ann",
        status_channel="u.ann.t1",
        queued=True,
        waits_for="instance",
    )


def test_a_queued_task_says_what_it_waits_for(world: World) -> None:
    """Nobody running and everybody busy are told apart, by the submit, the row, the events and the page."""

    def shown(task_id: str) -> set[str | None]:
        query = EventsQuery(task_id=task_id)
        row = world.store.read(lambda ledger: world.tasks.get(ledger, ANN, task_id)).body
        events = world.store.read(lambda ledger: world.tasks.events(ledger, ANN, query)).body
        page = world.page().body
        assert isinstance(row, TaskRow)
        assert isinstance(events, EventsAnswer)
        assert isinstance(page, TaskPage)
        return {row.waits_for, events.task.waits_for, *(one.waits_for for one in page.tasks if one.task_id == task_id)}

    world.add("t1")
    world.add_agent("other")
    world.join("inc1", agent="other")
    alone = shown("t1")
    holder = world.join("inc2")
    world.lease(holder, "t1")
    world.add("t2")

    assert (alone, shown("t1"), shown("t2")) == ({"instance"}, {None}, {"room"})
    world.beat(holder, ("t1", 1), draining=True)
    assert shown("t2") == {"instance"}


def test_a_wrong_name_gets_the_near_one_that_the_caller_may_see(world: World) -> None:
    """An agent that is not there is answered with a similar name; a private one of somebody else is not told."""
    world.add_agent("mine_only", listing="private")
    said = [world.submit(BOB, agent_name=name).body for name in ("ecko", "mine_onli", "something")]

    assert [one.message for one in said if isinstance(one, Problem)] == [
        "no agent named 'ecko'; did you mean 'echo'? `blocks agents` lists them",
        "no agent named 'mine_onli'; `blocks agents` lists them",
        "no agent named 'something'; `blocks agents` lists them",
    ]


def test_submit_is_offered_in_the_same_transaction(world: World) -> None:
    """A free instance gets the offer with the input in it, signed for it."""
    holder = world.join()
    reply = world.submit(task_id="t1")

    assert isinstance(reply.body, SubmitAnswer)
    assert not reply.body.queued
    offer = control(world, holder)[-1]
    assert isinstance(offer, StartTask)
    assert (offer.task_id, offer.epoch, offer.digest) == ("t1", 1, world.row().digest)
    start = msgspec.json.decode((offer.start or "").encode(), type=StartBody)
    assert (start.agent_name, start.owner_id, bytes(start.request_parts)) == ("echo", "ann", b'[{"text":"hi"}]')


def test_a_large_input_comes_with_the_claim(world: World) -> None:
    """An input above the limit is not in the offer, and whole in the claim's answer."""
    holder = world.join()
    world.add(metadata={"x": "y" * 9000})
    offer = control(world, holder)[-1]
    reply = world.claim(holder)

    assert isinstance(offer, StartTask)
    assert offer.start is None
    assert isinstance(reply.body, ClaimAnswer)
    assert isinstance(reply.body.start, msgspec.Raw)
    assert json.loads(bytes(reply.body.start))["metadata"] == {"x": "y" * 9000}


def test_an_input_that_grows_when_escaped_is_left_out(world: World) -> None:
    """An offer above the size of one message goes without its input."""
    holder = world.join()
    world.add(metadata={"x": '"' * 4000})
    offer = control(world, holder)[-1]

    assert isinstance(offer, StartTask)
    assert offer.start is None


def test_same_key_same_task(world: World) -> None:
    """[B8] A repeated submit gives the same task; another body under the key is refused."""
    first = world.submit(idempotency_key="k")
    again = world.submit(idempotency_key="k", task_id="other-id")
    other = world.submit(idempotency_key="k", metadata={"a": 1})

    assert (first.status, again.status, other.status) == (201, 200, 422)
    assert isinstance(first.body, SubmitAnswer)
    assert isinstance(again.body, SubmitAnswer)
    assert again.body.task_id == first.body.task_id
    assert again.body.idempotent
    assert code(other) == "IdempotencyConflict"


def test_keys_are_apart_by_owner(world: World) -> None:
    """The same key of another owner is another task."""
    assert [world.submit(consumer, idempotency_key="k").status for consumer in (ANN, BOB)] == [201, 201]


def test_an_id_is_taken_once(world: World) -> None:
    """[B9] The same id and body is a repeat; any other use of an id is refused."""
    world.add("t1")

    assert world.submit(task_id="t1").status == 200
    assert code(world.submit(task_id="t1", metadata={"a": 1})) == "TaskIdInUse"
    assert code(world.submit(BOB, task_id="t1")) == "TaskIdInUse"


def test_parallel_submits_make_one_row(world: World) -> None:
    """[B8] A hundred identical submits at once make one task."""
    request = SubmitTask(agent_name="echo", idempotency_key="k")
    futures = [world.store.write(lambda ledger: world.tasks.submit(ledger, ANN, request)) for _ in range(100)]
    wait(futures, 10)
    statuses = [future.result().status for future in futures]
    page = world.page(limit=50)

    assert sorted(statuses) == [200] * 99 + [201]
    assert isinstance(page.body, TaskPage)
    assert len(page.body.tasks) == 1


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"agent_name": "nobody"}, 404, "NotFound"),
        ({"billing_mode": "paid"}, 409, "BillingModeMismatch"),
        ({"task_kind": "pipe"}, 400, "InvalidInput"),
        ({"task_kind": "pipe", "duration": 0}, 400, "InvalidInput"),
        ({"task_kind": "pipe", "duration": 43_201}, 400, "InvalidInput"),
        ({"duration": 5}, 400, "InvalidInput"),
        ({"task_id": "a b"}, 400, "InvalidInput"),
        ({"parent_task_id": "a/b"}, 400, "InvalidInput"),
        ({"deadline": -1}, 400, "InvalidInput"),
    ],
)
def test_submits_that_are_refused(world: World, fields: dict[str, Any], status: int, word: str) -> None:
    """Each wrong request is refused with its own word and leaves nothing."""
    reply = world.submit(**fields)

    assert (reply.status, code(reply)) == (status, word)
    assert world.store.read(lambda ledger: ledger.page("ann", TaskFilter(), before=None, most=9)) == []


def test_billing_mismatch_tells_both(world: World) -> None:
    """The refusal says which mode was expected and which came."""
    body = world.submit(billing_mode="paid").body

    assert isinstance(body, Problem)
    assert body.details == {"expected": "free", "got": "paid"}


def test_a_private_agent_is_not_there_for_others(world: World) -> None:
    """Somebody else's private agent looks like none."""
    world.add_agent("mine", listing="private")

    assert world.submit(ANN, agent_name="mine").status == 201
    assert code(world.submit(BOB, agent_name="mine")) == "NotFound"


@pytest.mark.parametrize(("over", "status"), [(-1, 201), (0, 201), (1, 413)])
def test_an_accepted_input_can_be_run(world: World, over: int, status: int) -> None:
    """What is taken in, a worker can read; one byte more is refused, whatever the size of the request."""
    world.submit(task_id="probe")
    start = world.store.read(lambda ledger: ledger.start("probe"))
    text = b"x" * (MAX_BODY + over - len(start) + len("hi"))
    request = SubmitTask(agent_name="echo", task_id="t1", request_parts=msgspec.Raw(b'[{"text":"%b"}]' % text))
    reply = world.do(lambda ledger: world.tasks.submit(ledger, ANN, request))

    assert reply.status == status
    if status == 201:
        assert parsed(world.store.read(lambda ledger: ledger.start("t1")))["requestParts"] == [{"text": text.decode()}]
    else:
        assert isinstance(reply.body, Problem)
        assert reply.body.details == {"reason": "too_large"}


def test_a_limit_beyond_all_clocks_runs(world: World) -> None:
    """An agent that an older hub let in with any limit gets its tasks, as one with a year."""
    world.add_agent("endless", max_running_time_sec=10**16)
    holder = world.join("w", agent="endless")
    world.add("t1", agent_name="endless")

    assert world.claim(holder).status == 200
    assert world.row().max_runtime == MAX_SECONDS


def test_backlog_full(world: World) -> None:
    """What waits is bounded; room made by a worker is seen."""
    world.add_agent("small", max_pending_backlog=2)
    statuses = [world.submit(agent_name="small").status for _ in range(3)]
    full = world.submit(agent_name="small")
    world.join("w", agent="small", concurrency=4)

    assert statuses == [201, 201, 429]
    assert code(full) == "agent_at_capacity"
    assert world.submit(agent_name="small").status == 201


# ---------------------------------------------------------------------------------------------- reads
def test_foreign_and_unknown_look_alike(world: World) -> None:
    """Every verb of a consumer answers the same for a foreign task and for none."""
    world.add("t1")

    def ask(task_id: str) -> list[Reply]:
        query = EventsQuery(task_id=task_id)
        return [
            world.store.read(lambda ledger: world.tasks.get(ledger, BOB, task_id)),
            world.store.read(lambda ledger: world.tasks.events(ledger, BOB, query)),
            world.cancel(task_id, consumer=BOB),
        ]

    assert ask("t1") == ask("t2")
    assert {reply.status for reply in ask("t1")} == {404}
    assert world.row().state == "QUEUED"


def test_page_by_page(world: World) -> None:
    """Pages are newest first, filtered, and lead on by their cursor."""
    holder = world.join()
    for number in range(5):
        world.add(f"t{number}")
    world.lease(holder, "t0")

    def page(**asked: object) -> TaskPage:
        wanted: dict[str, Any] = {"limit": 2} | asked
        reply = world.page(**wanted)
        assert isinstance(reply.body, TaskPage), reply
        return reply.body

    first = page()
    rest = page(cursor=first.next, limit=9)

    assert [task.task_id for task in (*first.tasks, *rest.tasks)] == ["t4", "t3", "t2", "t1", "t0"]
    assert (first.next, rest.next) == ("t3", None)
    assert [task.task_id for task in page(state="running").tasks] == ["t0"]
    assert page(agent="other").tasks == []


def test_an_unknown_state_is_refused(world: World) -> None:
    """A page of a state that does not exist is a mistake, not an empty page."""
    assert code(world.page(state="odd")) == code(world.page(dead="odd")) == "InvalidInput"


def test_events_in_portions(world: World) -> None:
    """Events come in order, from behind a number, and say when there are more."""
    holder = world.join()
    world.report(holder, world.run(holder), events=(1, 2, 3), outcome=done(3))

    def ask(after: int, limit: int) -> EventsAnswer:
        query = EventsQuery(task_id="t1", after=after)
        reply = world.store.read(lambda ledger: world.tasks.events(ledger, ANN, query, limit))
        assert isinstance(reply.body, EventsAnswer)
        return reply.body

    first = ask(0, 2)
    seqs = [json.loads(bytes(event))["seq"] for event in first.events]
    rest = ask(seqs[-1], 9)

    assert (len(first.events), first.more, len(rest.events), rest.more) == (2, True, 2, False)
    assert isinstance(rest.task, TaskRow)
    assert rest.task.state == "completed"


def test_an_answer_of_events_is_bounded(world: World) -> None:
    """Large events are portioned by size, and none is left out."""
    holder = world.join()
    lease = world.run(holder)
    big = msgspec.Raw(b'{"type":"progress","message":"%s"}' % (b"x" * 60_000))
    for n in range(1, 21):
        report = Report(task_id="t1", epoch=1, lease=lease, events=[ReportEvent(n=n, body=big)])
        world.do(partial(world.tasks.report, holder=holder, item=report))
    portions, after = [], 0
    while events := world.events(after=after):
        portions.append(len(events))
        after = events[-1]["seq"]

    assert sum(portions) == 20
    assert max(portions) < 20


# ---------------------------------------------------------------------------------------------- run
def test_a_run_from_offer_to_end(world: World) -> None:
    """Claim, events and outcome in order; the session hears events 1…n and one terminal."""
    holder = world.join()
    lease = world.run(holder)
    reply = world.report(holder, lease, events=(1, 2), outcome=done(2))

    assert (reply.status, answer(reply).state) == (200, "completed")
    heard = world.heard("session.ann")
    assert [(event["type"], event.get("n")) for event in heard] == [
        ("progress", 1),
        ("progress", 2),
        ("terminal", None),
    ]
    assert (heard[-1]["state"], heard[-1]["lastN"], heard[-1]["epoch"]) == ("completed", 2, 1)
    assert world.heard("u.ann.t1") == heard == world.events()
    assert [said.ends_channel for said in world.said if said.channel == "u.ann.t1"] == [False, False, True]


def test_claim_again_is_the_same_lease(world: World) -> None:
    """[B1] A repeated claim of the holder gives the same lease, and counts one attempt."""
    holder = world.join()
    world.add()
    first, again = world.claim(holder), world.claim(holder)

    assert first == again
    assert world.row().attempt == 1


def test_claim_leaves_out_what_the_worker_has(world: World) -> None:
    """[R6] The input is not sent twice; another digest gets it."""
    holder = world.join()
    digest = world.add().digest
    same, other = world.claim(holder, have=digest), world.claim(holder, have="0" * 64)

    assert isinstance(same.body, ClaimAnswer)
    assert isinstance(other.body, ClaimAnswer)
    assert same.body.start is msgspec.UNSET
    assert other.body.start is not msgspec.UNSET


def test_a_claim_of_an_old_epoch_is_fenced(world: World) -> None:
    """[B2, D-2] After a new offer the old one is worth nothing."""
    holder = world.join()
    world.add()
    world.sweep(7)
    world.sweep(2)
    reply = world.claim(holder, epoch=1)

    assert world.row().epoch == 2
    assert reply.status == 409
    assert (world.store.counts["fenced_writes"], world.store.counts["claims_outrun"]) == (1, 0)


def test_a_claim_after_cancel_is_over(world: World) -> None:
    """[B3] A cancel that came before the claim ends it: nothing runs."""
    holder = world.join()
    world.add()
    world.cancel()
    reply = world.claim(holder, epoch=1)

    assert (reply.status, code(reply)) == (410, "TaskCancelled")
    assert control(world, holder)[-1] == CancelRun(task_id="t1", epoch=1)
    assert world.row().attempt == 0


def test_a_stranger_learns_nothing(world: World) -> None:
    """A claim or report of an instance of another agent is fenced like one of an unknown task."""
    world.add_agent("other")
    stranger = world.join("stranger", agent="other")
    world.run(world.join())

    claims = [world.claim(stranger, task, epoch=1) for task in ("t1", "t2")]
    reports = [world.report(stranger, "no lease", task, epoch=1, outcome=done()) for task in ("t1", "t2")]

    assert {reply.status for reply in claims + reports} == {409}
    assert {answer(reply).state for reply in claims + reports} == {"fenced"}


def test_nack_goes_to_somebody_else(world: World) -> None:
    """[B19] A refused offer costs the task nothing and goes to another instance; the nacker cools down."""
    first, second = world.join("a"), world.join("b")
    world.add()
    nacker, other = (first, second) if world.row().inc == "a" else (second, first)
    reply = world.claim(nacker, nack="no room")
    row = world.row()

    assert reply.status == 200
    assert (row.state, row.inc, row.epoch, row.attempt) == ("OFFERED", other.incarnation, 2, 0)
    world.claim(other, nack="no room")
    assert world.row().state == "QUEUED"
    world.sweep(1.1)
    assert world.row().state == "OFFERED"


def test_reports_are_replayed(world: World) -> None:
    """[B10] Everything that was said before is answered 200 again and stored once."""
    holder = world.join()
    lease = world.run(holder)
    world.report(holder, lease, events=(1, 2))
    again = world.report(holder, lease, events=(1, 2, 3))
    ends = [world.report(holder, lease, outcome=done(3), epoch=1).status for _ in range(3)]

    assert (again.status, ends) == (200, [200, 200, 200])
    assert [event.get("n") for event in world.events()] == [1, 2, 3, None]


def test_a_second_outcome_is_refused(world: World) -> None:
    """[B11] The first outcome stands; another one gets 409 and changes nothing."""
    holder = world.join()
    lease = world.run(holder)
    world.report(holder, lease, outcome=done())
    before = world.row()
    reply = world.report(holder, lease, outcome=done(state="failed", digest="e" * 64))

    assert (reply.status, answer(reply).state) == (409, "completed")
    assert world.row() == before


@pytest.mark.parametrize("events", [(2,), (1, 3), (2, 1)])
def test_holes_are_refused(world: World, events: tuple[int, ...]) -> None:
    """[R3] Events that do not follow are refused with the number that is expected."""
    holder = world.join()
    reply = world.report(holder, world.run(holder), events=events)

    assert (reply.status, answer(reply).expected_n) == (422, 1)
    assert world.events() == []


def test_an_outcome_with_missing_events_waits(world: World) -> None:
    """[R3] An outcome that counts more events than are stored is refused, and taken when they are there."""
    holder = world.join()
    lease = world.run(holder)
    early = world.report(holder, lease, events=(1,), outcome=done(2))
    then = world.report(holder, lease, events=(2,), outcome=done(2))

    assert (early.status, answer(early).expected_n, then.status) == (422, 2, 200)


@pytest.mark.parametrize("body", [b'{"type":"terminal"}', b'{"type":"progress","epoch":1}', b"[]", b'{"a":1,"a":2}'])
def test_events_that_are_not_the_workers(world: World, body: bytes) -> None:
    """An event that is none, or carries what only the hub writes, is refused whole."""
    holder = world.join()
    report = Report(
        task_id="t1",
        epoch=1,
        lease=world.run(holder),
        events=[ReportEvent(n=1, body=msgspec.Raw(body))],
        outcome=done(1),
    )
    reply = world.do(lambda ledger: world.tasks.report(ledger, holder, report))

    assert (reply.status, code(reply)) == (400, "InvalidInput")
    assert world.row().state == "RUNNING"


def test_a_failure_is_told_with_its_words(world: World) -> None:
    """The terminal event of a failed run carries what the run said."""
    holder = world.join()
    world.report(holder, world.run(holder), outcome=done(state="failed", error="boom"))
    terminal = world.events()[-1]

    assert (terminal["state"], terminal["error"], terminal["errorCode"]) == ("failed", "boom", "handler_error")


@pytest.mark.parametrize("text", ["\x01" * 16_000, "x" * 16_384])
def test_the_end_of_a_task_always_fits_an_envelope(world: World, text: str) -> None:
    """Whatever a worker says of a failure, its terminal event is published, and is what the row says."""
    holder = world.join()
    outcome = done(state="failed", error=text, reason="\x01" * 1024, error_code="\x01" * 64)
    world.report(holder, world.run(holder), outcome=outcome)

    assert len(encode(world.events()[-1])) < ENVELOPE_BYTES
    assert world.events()[-1]["error"] == world.row().error


# ---------------------------------------------------------------------------------------------- given back, lost
def test_release_counts_no_attempt(world: World) -> None:
    """[P7] A task given back goes to another instance at once, at no cost, and says that it starts again."""
    holder, other = world.join("a"), None
    lease = world.run(holder)
    world.report(holder, lease, events=(1,))
    other = world.join("b")
    world.beat(holder, draining=True)
    reply = world.report(holder, lease, release=True)
    again = world.report(holder, lease, release=True, epoch=1)
    row = world.row()

    assert (reply.status, again.status) == (200, 409)
    assert (row.state, row.inc, row.epoch, row.attempt, row.lost) == ("OFFERED", other.incarnation, 2, 0, 0)
    assert [event.get("status") for event in world.events()] == [None, "restarted"]


def test_release_is_replayed_while_it_waits(world: World) -> None:
    """A repeated release is answered 200 until somebody else was offered the task."""
    holder = world.join()
    lease = world.run(holder)
    world.beat(holder, ("t1", 1), draining=True)

    assert [world.report(holder, lease, release=True, epoch=1).status for _ in range(2)] == [200, 200]


def test_at_most_once_is_not_run_again(world: World) -> None:
    """[B21] What may start once only ends when it is given back or lost."""
    holder = world.join(concurrency=2)
    world.report(holder, world.run(holder, "t1", delivery="at_most_once"), "t1", release=True)
    world.run(holder, "t2", delivery="at_most_once")
    world.beat(holder, stopped=True)

    assert [(world.row(key).state, world.row(key).reason) for key in ("t1", "t2")] == [
        ("CANCELLED", "drained"),
        ("FAILED", None),
    ]
    assert world.events("t2")[-1]["errorCode"] == "lease_lost"


def test_a_zombie_is_fenced(world: World) -> None:
    """[B12] Who lost the lease and wakes up late changes nothing once the task was offered again."""
    zombie = world.join("old", instance_id="one")
    lease = world.run(zombie)
    new = world.join("new", instance_id="one")
    replies = [
        world.report(zombie, lease, events=(1,), epoch=1),
        world.report(zombie, lease, outcome=done(), epoch=1),
        world.report(zombie, lease, release=True, epoch=1),
        world.claim(zombie, epoch=1),
    ]

    assert [reply.status for reply in replies] == [409, 409, 409, 410]
    assert code(replies[3]) == "Superseded"
    assert (world.row().inc, world.row().epoch, world.row().last_n) == (new.incarnation, 2, 0)


def test_a_late_result_is_saved(world: World) -> None:
    """A result of the last holder counts, with its events, while the task was offered to nobody since."""
    holder = world.join()
    lease = world.run(holder)
    world.report(holder, lease, events=(1,))
    world.sweep(36)
    assert (world.row().state, world.row().lost) == ("QUEUED", 1)
    reply = world.report(holder, lease, events=(1, 2), outcome=done(2), epoch=1)

    assert (reply.status, answer(reply).state) == (200, "completed")
    assert [event.get("n") for event in world.events()] == [1, 2, None]


def test_a_late_result_comes_whole_or_not(world: World) -> None:
    """Events of a last holder without their outcome, or with a hole, change nothing."""
    holder = world.join()
    lease = world.run(holder)
    world.sweep(36)

    assert world.report(holder, lease, events=(1,), epoch=1).status == 409
    assert world.report(holder, lease, events=(1,), outcome=done(2), epoch=1).status == 422
    assert world.row().last_n == 0


def test_a_task_that_kills_its_workers_is_given_up(world: World) -> None:
    """[B15] At the limit of lost leases the task fails."""
    for number in range(3):
        holder = world.join(f"w{number}", pid=number)
        _ = world.run(holder) if number == 0 else world.lease(holder)
        world.processes[number] = False
        world.sweep()
    row = world.row()

    assert (row.state, row.error, row.error_code, row.attempt) == ("FAILED", "lease_lost", "lease_lost", 3)


# ---------------------------------------------------------------------------------------------- cancel
def test_cancel_of_what_waits(world: World) -> None:
    """[P6] What nobody runs ends at once, in an epoch of its own."""
    world.add()
    reply = world.cancel(reason="enough")

    assert reply.status == 202
    assert reply.body == CancelAnswer(task_id="t1", state="canceled")
    assert (world.events()[-1]["reason"], world.events()[-1]["epoch"], world.row().epoch) == ("enough", 1, 1)


def test_cancel_of_a_run(world: World) -> None:
    """[P6] The flag is set, told by the bus and by every answer, and the run's word ends the task."""
    holder = world.join()
    lease = world.run(holder)
    reply = world.cancel(reason="enough")
    said = control(world, holder)[-1]
    flagged = answer(world.report(holder, lease, events=(1,)))
    told = world.told(holder, ("t1", 1)).cancels
    again = world.claim(holder)
    world.report(holder, lease, outcome=done(1, state="canceled"))

    assert (reply.status, reply.body) == (202, CancelAnswer(task_id="t1", state="running"))
    assert said == CancelRun(task_id="t1", epoch=1, reason="enough")
    assert (flagged.cancel, flagged.reason) == (True, "enough")
    assert [(flag.task_id, flag.reason) for flag in told] == [("t1", "enough")]
    assert isinstance(again.body, ClaimAnswer)
    assert again.body.cancel
    assert [event["type"] for event in world.events()] == ["cancel_requested", "progress", "terminal"]
    assert (world.events()[-1]["state"], world.events()[-1]["reason"]) == ("canceled", "enough")
    assert world.events()[-1]["hubSeqs"] == [world.events()[0]["seq"]]


def test_a_result_made_first_stands(world: World) -> None:
    """[B6] Completed stands after a cancel; a failure after it is a cancel."""
    holder = world.join(concurrency=2)
    for key, state in (("t1", "completed"), ("t2", "failed")):
        lease = world.run(holder, key)
        world.cancel(key)
        world.report(holder, lease, key, outcome=done(state=state, error="x"))

    assert [(world.row(key).state, world.row(key).error) for key in ("t1", "t2")] == [
        ("COMPLETED", None),
        ("CANCELLED", None),
    ]


def test_cancel_of_an_ended_task(world: World) -> None:
    """[B4] A cancel that comes too late changes nothing and says nothing."""
    holder = world.join()
    world.report(holder, world.run(holder), outcome=done())
    before, said = world.row(), len(world.said)
    reply = world.cancel()

    assert (reply.status, reply.body) == (200, CancelAnswer(task_id="t1", state="completed", already_ended=True))
    assert (world.row(), len(world.said)) == (before, said)


def test_cancel_twice(world: World) -> None:
    """[B7] A second cancel rings again and adds no event; the first reason stands."""
    holder = world.join()
    world.run(holder)
    world.cancel(reason="first")
    world.cancel(reason="second")

    assert world.row().reason == "first"
    assert [event["type"] for event in world.events()] == ["cancel_requested"]
    assert sum(isinstance(message, CancelRun) for message in control(world, holder)) == 2


def test_terminate_shortens_the_grace(world: World) -> None:
    """A terminate after a cancel ends the task after its own grace."""
    holder = world.join()
    world.run(holder)
    world.cancel()
    world.cancel(terminated=True)
    world.beat(holder, ("t1", 1))
    world.sweep(6)

    assert (world.row().state, world.row().reason) == ("CANCELLED", "forced")


@pytest.mark.parametrize("asked", [{"reason": "mine"}, {"terminated": True}, {}])
def test_a_forced_end_is_called_so_whoever_acts_first(world: World, asked: dict[str, Any]) -> None:
    """[C1] The worker that gave a handler up says the same as the hub would, whatever the cancel said."""
    holder = world.join()
    lease = world.run(holder)
    world.cancel(**asked)
    world.report(holder, lease, outcome=done(state="canceled", reason="forced"))

    assert (world.row().state, world.row().reason) == ("CANCELLED", "forced")


def test_a_cancel_that_is_obeyed_keeps_its_reason(world: World) -> None:
    """[B4] A handler that stops in time ends with what the caller said."""
    holder = world.join()
    lease = world.run(holder)
    world.cancel(reason="mine")
    world.report(holder, lease, outcome=done(state="canceled", reason="mine"))

    assert world.row().reason == "mine"


def test_a_cancel_that_nobody_obeys_is_forced(world: World) -> None:
    """[P6] At the end of the grace the task ends, and its run is fenced."""
    holder = world.join()
    lease = world.run(holder)
    world.cancel()
    for _ in range(4):
        world.sweep(7)
        world.beat(holder, ("t1", 1))
    assert world.row().state == "CANCELLING"
    world.sweep(3)
    late = world.report(holder, lease, outcome=done(), epoch=1)

    assert (world.row().state, world.row().reason, late.status) == ("CANCELLED", "forced", 409)
    assert [held.task_id for held in world.told(holder, ("t1", 1)).fenced] == ["t1"]


# ---------------------------------------------------------------------------------------------- late reports
def _finished(world: World, holder: Holder) -> tuple[str, Report]:
    """Let the holder run a task, and return the task and the report that was never sent."""
    lease = world.run(holder)
    row = world.row()
    assert row.inc == holder.incarnation
    return row.id, Report(task_id=row.id, epoch=row.epoch, lease=lease, outcome=done())


def test_a_late_report_counts_by_its_lease(world: World) -> None:
    """What a process that died left is recorded for its owner, by the lease; again it is a replay. [R11]"""
    holder = world.join()
    task, report = _finished(world, holder)
    item = LateReport(incarnation=holder.incarnation, report=report)

    first = world.do(lambda ledger: world.tasks.report_late(ledger, "ann", item))
    again = world.do(lambda ledger: world.tasks.report_late(ledger, "ann", item))

    assert (first.status, again.status) == (200, 200)
    assert world.row(task).state == "COMPLETED"


def test_a_late_report_still_counts_after_the_loss(world: World) -> None:
    """The lease was ended, but nobody was offered the task since: its result stands. [R11]"""
    holder = world.join()
    task, report = _finished(world, holder)
    world.beat(holder, stopped=True)
    assert world.row(task).state == "QUEUED"
    item = LateReport(incarnation=holder.incarnation, report=report)

    assert world.do(lambda ledger: world.tasks.report_late(ledger, "ann", item)).status == 200
    assert world.row(task).state == "COMPLETED"


def test_a_late_report_of_anybody_else_is_refused(world: World) -> None:
    """Another owner, another incarnation or a made-up lease: nothing changes, and nothing is told."""
    holder = world.join()
    task, report = _finished(world, holder)
    other = world.join("inc2")
    forged = msgspec.structs.replace(report, lease="0" * 64)
    tries = [
        ("bob", LateReport(incarnation=holder.incarnation, report=report)),
        ("ann", LateReport(incarnation=other.incarnation, report=report)),
        ("ann", LateReport(incarnation="nobody", report=report)),
        ("ann", LateReport(incarnation=holder.incarnation, report=forged)),
    ]

    replies = [
        world.do(lambda ledger, who=who, item=item: world.tasks.report_late(ledger, who, item))  # type: ignore[misc]
        for who, item in tries
    ]

    assert [reply.status for reply in replies] == [409] * 4
    assert world.row(task).state == "RUNNING"


# ---------------------------------------------------------------------------------------------- room
def test_without_room_only_what_is_known_is_accepted() -> None:
    """A new task is refused with 507; the repeat of one that was taken is answered as ever. [E3]"""
    with World() as world:
        world.add_agent()
        world.add("t1", idempotency_key="k")
        world.has_room = False

        refused = world.submit(task_id="t2")
        again = world.submit(task_id="t1", idempotency_key="k")

        assert (refused.status, code(refused)) == (507, "NoRoom")
        assert again.status == 200


def test_a_cancelled_run_that_is_given_back_is_over(world: World) -> None:
    """[B7] Who drains while his task is being cancelled ends it: it goes to nobody else."""
    holder = world.join()
    lease = world.run(holder)
    assert world.cancel().status == 202
    reply = world.report(holder, lease, release=True)

    assert reply.status == 200
    assert (world.row().state, world.row().reason) == ("CANCELLED", "forced")


# ---------------------------------------------------------------------------------------------- compare-and-set
def _freeze(world: World) -> None:
    """Have the database leave every turn of a task undone, as if the row had changed in between."""
    ignore = "CREATE TRIGGER frozen BEFORE UPDATE ON task BEGIN SELECT RAISE(IGNORE); END"
    world.do(lambda ledger: ledger.connection.exec_driver_sql(ignore).rowcount)


def test_a_claim_that_changed_nothing_gives_no_lease(world: World) -> None:
    """[I6] Whose compare-and-set did not hold is fenced."""
    holder = world.join()
    world.add()
    _freeze(world)

    assert (world.claim(holder).status, world.row().state) == (409, "OFFERED")


@pytest.mark.parametrize("said", [{"outcome": done()}, {"release": True}, {"events": (1,)}])
def test_a_report_that_changed_nothing_is_not_confirmed(world: World, said: dict[str, Any]) -> None:
    """[I2] What is not stored is not answered 200, or the worker would forget it."""
    holder = world.join()
    lease = world.run(holder)
    _freeze(world)
    reply = world.report(holder, lease, **said)

    assert (reply.status, world.row().state, world.row().last_n) == (409, "RUNNING", 0)
