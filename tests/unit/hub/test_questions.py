"""Questions at the hub: who may ask and answer what, what is told to whom, and what stays of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import ANN, BOB, World, done

from blocks_worker.protocol.channels import control_channel
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.leases import (
    AnswerFlag,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    HeldTask,
    Report,
    ReportAnswer,
    ReportEvent,
)
from blocks_worker.protocol.questions import MAX_ANSWER, MAX_ASKS
from blocks_worker.protocol.tasks import AnswerAnswer, AnswerTask, Problem, RetryPolicy, RetryTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.task_service import Consumer, Holder, Reply


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


def ask(world: World, holder: Holder, lease: str, n: int = 1, ask_id: str = "ask-1", **fields: Any) -> Reply:
    """Report the event of a question."""
    body = encode({"type": "question", "id": ask_id, "text": "?", "timeout": 60, **fields})
    return told(world, holder, lease, events=[ReportEvent(n=n, body=msgspec.Raw(body))])


def told(world: World, holder: Holder, lease: str, **fields: Any) -> Reply:
    """Report something of the task."""
    item = Report(task_id="t1", epoch=world.row().epoch, lease=lease, **fields)
    return world.do(lambda ledger: world.tasks.report(ledger, holder, item))


def answer(world: World, value: Any = 1, ask_id: str = "ask-1", consumer: Consumer = ANN, task: str = "t1") -> Reply:
    """Answer."""
    request = AnswerTask(ask_id=ask_id, value=msgspec.Raw(encode(value)))
    return world.do(lambda ledger: world.tasks.answer(ledger, consumer, task, request))


def asking(world: World, holder: Holder, **fields: Any) -> str:
    """Have a task ask; return its lease."""
    lease = world.run(holder, **fields)
    assert ask(world, holder, lease).status == 200
    assert world.row().state == "INPUT_REQUIRED"
    return lease


def told_flags(flags: list[AnswerFlag] | msgspec.UnsetType) -> list[tuple[str, bytes | None]]:
    """Return questions and answers."""
    return [(one.ask_id, bytes(one.value) if one.value is not msgspec.UNSET else None) for one in flags or ()]


def beat(world: World, holder: Holder, ask_id: str = "ask-1") -> HeartbeatAnswer:
    """Send the heartbeat of a run that waits."""
    message = Heartbeat(held=[HeldTask(task_id="t1", epoch=world.row().epoch, parked=True, asks=ask_id)])
    reply = world.do(lambda ledger: world.instances.heartbeat(ledger, holder, message))
    assert isinstance(reply.body, HeartbeatAnswer)
    return reply.body


def refusal(reply: Reply) -> tuple[int, str]:
    """Return status and word of a refusal."""
    assert isinstance(reply.body, Problem), reply
    return reply.status, reply.body.code


def test_the_answer_is_told_by_every_way(world: World, holder: Holder) -> None:
    """The bus, each heartbeat that names the question, and the report that is repeated bring it."""
    lease = asking(world, holder)
    assert answer(world, {"a": [1]}).status == 200

    control = [json.loads(said["control"]) for said in world.heard(control_channel(holder.agent_id))]
    assert [one["value"] for one in control if one["type"] == "AnswerTask"] == ['{"a":[1]}']
    for _ in range(2):
        assert told_flags(beat(world, holder).answers) == [("ask-1", b'{"a":[1]}')]
    again = ask(world, holder, lease).body
    assert isinstance(again, ReportAnswer)
    assert told_flags(again.answers) == [("ask-1", b'{"a":[1]}')]
    assert (world.row().state, world.row().ask_id, world.row().ask_until) == ("RUNNING", None, None)


def test_a_long_answer_rings_and_is_asked_for(world: World, holder: Holder) -> None:
    """What does not fit a control message is left out of it, and comes with the next heartbeat."""
    asking(world, holder)
    text = '"' * (MAX_ANSWER // 2 - 1)
    assert answer(world, text).status == 200

    control = [json.loads(said["control"]) for said in world.heard(control_channel(holder.agent_id))]
    assert ["value" in one for one in control if one["type"] == "AnswerTask"] == [False]
    assert told_flags(beat(world, holder).answers) == [("ask-1", encode(text))]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": ""}, "question"),
        ({"timeout": -1}, "timeout"),
        ({"schema": {"type": "sting"}}, "schema of the question"),
        ({"text": "x" * 13_000}, "publish an artifact"),
        ({"ask_id": "x" * 65}, "askId"),
    ],
)
def test_what_cannot_be_answered_is_not_taken(world: World, holder: Holder, fields: dict[str, Any], text: str) -> None:
    """[K5] A question that no worker of ours would ask is refused, and nothing of the report is stored."""
    lease = world.run(holder)
    reply = ask(world, holder, lease, **fields)

    assert refusal(reply) == (400, "InvalidInput")
    assert text in reply.body.message  # type: ignore[union-attr]  # a problem
    assert (world.row().state, world.row().last_n) == ("RUNNING", 0)


def test_one_question_is_open_and_few_are_asked(world: World, holder: Holder) -> None:
    """A second one beside it is refused, and so is one too many for a task."""
    lease = asking(world, holder)
    assert refusal(ask(world, holder, lease, 2, "ask-2")) == (400, "InvalidInput")
    for number in range(1, MAX_ASKS + 1):
        assert answer(world, number, f"ask-{number}").status == 200
        reply = ask(world, holder, lease, number + 1, f"ask-{number + 1}")
    assert refusal(reply) == (400, "InvalidInput")


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        ({"type": "integer", "maximum": 3}, 4, "must be at most 3"),
        ({"required": ["a"]}, {}, "a: is missing"),
        (None, "x" * MAX_ANSWER, "store a file"),
        ({"items": {"anyOf": [{"minimum": n} for n in range(30)]}}, list(range(1000)), "too many values"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_why(
    world: World, holder: Holder, schema: dict[str, Any] | None, value: Any, text: str
) -> None:
    """[K1] It is refused with the place and the reason, bounded in its cost, and the question is open as before."""
    lease = world.run(holder)
    ask(world, holder, lease, schema=schema)
    before = world.row()
    reply = answer(world, value)

    assert refusal(reply) == (400, "InvalidAnswer")
    assert text in reply.body.message  # type: ignore[union-attr]  # a problem
    assert world.row() == before


def test_only_the_owner_of_a_task_answers(world: World, holder: Holder) -> None:
    """[K1] To anybody else it is not there, and the audit knows who did."""
    asking(world, holder)
    acts: list[Any] = []
    assert refusal(answer(world, consumer=BOB)) == refusal(answer(world, task="none")) == (404, "NotFound")
    assert world.row().state == "INPUT_REQUIRED"

    def work(ledger: Any) -> None:
        request = AnswerTask(ask_id="ask-1", value=msgspec.Raw(b"1"))
        world.tasks.answer(ledger, ANN, "t1", request)
        world.tasks.answer(ledger, ANN, "t1", request)
        acts.extend(ledger.acts)

    world.do(work)
    assert [(act, fields["task"], fields["by"]) for act, fields in acts] == [("task_answered", "t1", "ann")]


def test_what_is_not_asked_is_told_apart(world: World, holder: Holder) -> None:
    """[J17] Nothing asked yet, something else, answered otherwise, closed, over: each in words of its own."""
    lease = world.run(holder)
    assert refusal(answer(world)) == (409, "NotAsked")
    ask(world, holder, lease)
    other = answer(world, ask_id="ask-9")
    assert "the task asks ask-1, not ask-9" in other.body.message  # type: ignore[union-attr]  # a problem
    answer(world, 1)
    assert refusal(answer(world, 2)) == (409, "AnsweredBefore")
    ask(world, holder, lease, 2, "ask-2")
    assert told(world, holder, lease, ask_closed="ask-2").status == 200
    assert refusal(answer(world, 1, "ask-2")) == (409, "QuestionClosed")
    told(world, holder, lease, outcome=done(2))
    assert "the task is over (completed)" in answer(world, 1, "ask-3").body.message  # type: ignore[union-attr]  # a problem
    assert isinstance(answer(world, 1).body, AnswerAnswer)


def test_whichever_was_first_stands_at_the_end_of_the_time(world: World, holder: Holder) -> None:
    """[J17] A close behind an answer is told the answer; a close that was first is told again when it is repeated."""
    lease = asking(world, holder)
    answer(world, 7)
    late = told(world, holder, lease, ask_closed="ask-1")
    ask(world, holder, lease, 2, "ask-2")
    closed = [told(world, holder, lease, ask_closed="ask-2") for _ in range(2)]

    assert isinstance(late.body, ReportAnswer)
    assert told_flags(late.body.answers) == [("ask-1", b"7")]
    for reply in closed:
        assert isinstance(reply.body, ReportAnswer)
        assert (reply.status, told_flags(reply.body.answers)) == (200, [("ask-2", None)])
    assert [event["status"] for event in world.events() if event["type"] == "system"] == ["answered", "question_closed"]


@pytest.mark.parametrize("how", ["release", "lists"])
def test_a_task_without_a_holder_waits_on(world: World, holder: Holder, how: str) -> None:
    """[J16] Given back, or unknown to its worker: nobody is offered it until the answer, which the next run gets."""
    lease = asking(world, holder)
    if how == "release":
        assert [told(world, holder, lease, release=True).status for _ in range(2)] == [200, 200]
    else:
        world.clock.advance(9)
        for _ in range(2):
            world.beat(holder)
    row = world.row()
    assert (row.state, row.inc, row.epoch, row.attempt, row.lost) == ("INPUT_REQUIRED", None, 1, 1, 0)
    world.sweep(10)
    world.beat(holder)
    assert world.row().state == "INPUT_REQUIRED"

    answer(world, "yes")
    claimed = world.claim(holder).body
    assert isinstance(claimed, ClaimAnswer)
    assert (claimed.attempt, told_flags(claimed.answers)) == (2, [("ask-1", b'"yes"')])


def test_the_time_of_a_question_without_a_holder_is_the_hubs(world: World, holder: Holder) -> None:
    """[J16] When it is over the task is offered again, and the next run is told that nobody answered."""
    lease = asking(world, holder)
    told(world, holder, lease, release=True)
    for seconds in (30, 29):
        world.sweep(seconds)
        world.beat(holder)
    assert world.row().state == "INPUT_REQUIRED"
    world.sweep(2)
    assert world.row().state == "OFFERED"
    claimed = world.claim(holder).body

    assert isinstance(claimed, ClaimAnswer)
    assert told_flags(claimed.answers) == [("ask-1", None)]
    assert refusal(answer(world)) == (409, "QuestionClosed")


def test_a_paused_task_that_is_answered_waits_for_its_resume(world: World, holder: Holder) -> None:
    """Both have to come before it is offered again."""
    lease = asking(world, holder)
    told(world, holder, lease, release=True)
    world.pause()
    answer(world)
    assert (world.row().state, world.page(state="paused").body.tasks[0].task_id) == ("QUEUED", "t1")  # type: ignore[union-attr]  # a page
    world.pause(on=False)
    assert world.row().state == "OFFERED"


def test_the_end_tells_that_it_was_answered(world: World, holder: Holder) -> None:
    """[A9] `answered` has no number of the run: whoever did not hear it learns from the end where it stands."""
    lease = asking(world, holder)
    answer(world)

    assert told(world, holder, lease, outcome=done(1)).status == 200

    (answered,) = (event for event in world.events() if event.get("status") == "answered")
    end = world.events()[-1]
    assert (end["type"], end["hubSeqs"]) == ("terminal", [answered["seq"]])


@pytest.mark.parametrize(("held", "state"), [(True, "CANCELLING"), (False, "CANCELLED")])
def test_a_cancel_closes_the_question(world: World, holder: Holder, held: bool, state: str) -> None:
    """Held, its run is told; without a holder it is over at once."""
    lease = asking(world, holder)
    if not held:
        told(world, holder, lease, release=True)
    world.cancel()

    assert (world.row().state, world.row().ask_id) == (state, None)
    assert refusal(answer(world)) == (409, "NotAsked")


@pytest.mark.parametrize(
    ("fields", "state"), [({"delivery": "at_most_once"}, "FAILED"), ({"task_kind": "pipe", "duration": 5}, "FAILED")]
)
def test_what_runs_once_does_not_wait_for_another_run(
    world: World, holder: Holder, fields: dict[str, Any], state: str
) -> None:
    """[B21] A lost lease ends it, whatever it asks."""
    asking(world, holder, **fields)
    world.join("inc2", instance_id=holder.instance_id)

    assert (world.row().state, world.row().error_code) == (state, "lease_lost")


def test_limits_of_time_count_while_it_asks(world: World, holder: Holder) -> None:
    """`max_runtime` ends a run that waits; `deadline` also a task that waits without one."""
    asking(world, holder, max_runtime=20.0)
    world.sweep(23)
    assert (world.row().state, world.row().reason) == ("EXPIRED", "max_runtime")

    world.beat(holder)
    other = world.run(holder, "t2", deadline=world.steady.now_ms() + 20_000)
    body = encode({"type": "question", "id": "ask-1", "text": "?", "timeout": 60})
    item = Report(task_id="t2", epoch=1, lease=other, events=[ReportEvent(n=1, body=msgspec.Raw(body))], release=True)
    world.do(lambda ledger: world.tasks.report(ledger, holder, item))
    assert world.row("t2").inc is None
    world.sweep(21)
    assert (world.row("t2").state, world.row("t2").reason) == ("EXPIRED", "deadline")


def test_a_run_after_a_failure_keeps_answers_and_asks_again_what_nobody_answered(world: World, holder: Holder) -> None:
    """[I10] The hub's retry is another try: an answer counts for it, the end of a question's time does not."""
    lease = asking(world, holder, retry_policy=RetryPolicy(max_attempts=3, initial_delay_sec=0))
    answer(world, 1)
    ask(world, holder, lease, 2, "ask-2")
    told(world, holder, lease, ask_closed="ask-2")
    told(world, holder, lease, outcome=done(2, state="failed", error_code="handler_error"))
    world.sweep(1)
    claimed = world.claim(holder).body

    assert isinstance(claimed, ClaimAnswer)
    assert told_flags(claimed.answers) == [("ask-1", b"1")]
    assert ask(world, holder, claimed.lease, 1, "ask-2").status == 200
    assert world.row().ask_id == "ask-2"


@pytest.mark.parametrize(("keeps", "expected"), [(True, [("ask-1", b"1")]), (False, [])])
def test_what_is_sent_again_has_the_answers_unless_told(
    world: World,
    holder: Holder,
    keeps: bool,
    expected: list[Any],
) -> None:
    """[J22] A failed task that is sent again is not asked what was answered."""
    lease = asking(world, holder)
    answer(world, 1)
    told(world, holder, lease, outcome=done(1, state="failed"))
    request = RetryTask(task_id="t9", keep_answers=keeps)
    for status in (201, 200):
        assert world.do(lambda ledger: world.tasks.retry(ledger, ANN, "t1", request)).status == status
    claimed = world.claim(holder, "t9").body

    assert isinstance(claimed, ClaimAnswer)
    assert told_flags(claimed.answers) == expected


def test_a_purge_takes_the_answers_along(world: World, holder: Holder) -> None:
    """Nothing stays of what was asked and answered."""
    lease = asking(world, holder)
    answer(world, "secret")
    told(world, holder, lease, outcome=done(1))
    world.purge()

    assert world.store.read(lambda ledger: ledger.answers("t1")) == []


def test_an_event_of_a_run_that_is_to_stop_asks_nothing(world: World, holder: Holder) -> None:
    """A question that crossed a cancel is stored for its number, and the task stays on its way to the end."""
    lease = world.run(holder)
    world.cancel()
    reply = ask(world, holder, lease)

    assert isinstance(reply.body, ReportAnswer)
    assert (reply.status, reply.body.cancel, world.row().state, world.row().last_n) == (200, True, "CANCELLING", 1)


def test_the_late_result_of_a_lost_run_counts_while_the_question_is_open(world: World, holder: Holder) -> None:
    """Nobody was offered the task since: what the last holder made stands."""
    lease = asking(world, holder)
    world.join("inc2", instance_id=holder.instance_id)
    assert (world.row().state, world.row().inc) == ("INPUT_REQUIRED", None)

    assert told(world, holder, lease, outcome=done(1)).status == 200
    assert (world.row().state, world.row().ask_id) == ("COMPLETED", None)
