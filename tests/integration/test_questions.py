"""Questions to the consumer: who waits, who answers, and what stands; a worker at a ledger in this process."""

from __future__ import annotations

import base64
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.errors import AskTimeoutError, TaskCancelledError
from blocks_worker.protocol.tasks import AnswerAnswer, Problem
from blocks_worker.worker.running import MAX_ASKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.store.records import TaskRecord

COLOUR = {"type": "string", "enum": ["red", "blue"]}


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


class Asker:
    """A handler that asks for a colour, and remembers how that ended; "else" does not ask, "block" holds its slot."""

    def __init__(self, timeout: float | None = 30.0) -> None:
        self.timeout = timeout
        self.raised: list[BaseException] = []
        self.runs = 0
        self.go = threading.Event()

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        if task.text() != "hi":
            self.go.wait(30 if task.text() == "block" else 0)
            return "another"
        self.runs += 1
        try:
            return f"painted {ctx.ask('Which colour?', COLOUR, self.timeout)}"
        except Exception as error:
            self.raised.append(error)
            raise


def asked(hub: LedgerInProcess) -> str:
    """Submit a task and wait for its question."""
    task = hub.submit()
    hub.asking(task)
    return task


def result(hub: LedgerInProcess, task: str) -> str:
    """Return the inline text that the task gave."""
    found = [event["artifactRef"]["data"] for event in hub.events(task) if event["type"] == "artifact"]
    return base64.b64decode(found[-1]).decode()


def stored(hub: LedgerInProcess, task: str) -> TaskRecord:
    """Return the row of a task as the ledger has it."""
    row = hub.store.read(lambda ledger: ledger.task(task))
    assert row is not None
    return row


def is_open(hub: LedgerInProcess, task: str, ask: str) -> bool:
    """Tell whether this question of a task is open."""
    question = hub.row(task).question
    return question is not None and question.ask_id == ask


def test_a_handler_asks_and_goes_on_with_the_answer(hub: LedgerInProcess) -> None:
    """The question stands in the row and the events, the answer is what `ask` returns, and the task completes."""
    with WorkerAtHub(hub, Asker()) as at:
        at.ready()
        task = asked(hub)
        question = hub.row(task).question
        assert question is not None
        assert (question.ask_id, question.question, question.schema) == ("ask-1", "Which colour?", COLOUR)

        assert hub.answer(task, "blue").status == 200
        assert hub.ended(task).state == "completed"

    assert result(hub, task) == "painted blue"
    told = [(event["type"], event.get("status")) for event in hub.events(task)]
    assert ("question", None) in told
    assert ("system", "answered") in told
    assert hub.row(task).question is None


def test_who_waits_for_an_answer_gives_his_slot_to_others(hub: LedgerInProcess) -> None:
    """[J18] Another task runs on the only slot; who is answered goes on before anything new begins."""
    handler = Asker()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = asked(hub)
        assert hub.ended(hub.submit("other")).state == "completed"

        blocking = hub.submit("block")
        hub.running(blocking)
        waiting = hub.submit("last")
        assert hub.answer(task, "red").status == 200
        wait_until(lambda: hub.row(task).state == "running", what="the answer")
        assert hub.row(waiting).state == "pending"
        handler.go.set()
        assert hub.ended(task).state == "completed"
        assert hub.ended(waiting).state == "completed"


def test_an_answer_that_does_not_fit_leaves_the_question_open(hub: LedgerInProcess) -> None:
    """The text says what is wrong, nothing is lost, and the right answer is taken after it."""
    with WorkerAtHub(hub, Asker()) as at:
        at.ready()
        task = asked(hub)
        refused = hub.answer(task, "green")
        assert isinstance(refused.body, Problem)
        assert (refused.status, refused.body.code) == (400, "InvalidAnswer")
        assert refused.body.message == "the answer does not fit the question: must be one of red, blue"
        assert hub.row(task).state == "input-required"

        assert hub.answer(task, "red").status == 200
        assert hub.ended(task).state == "completed"


def test_the_first_answer_stands_and_everybody_is_told(hub: LedgerInProcess) -> None:
    """[J17] [I10] The same again is no error, another value is refused with the one that stands, also after the end."""
    with WorkerAtHub(hub, Asker()) as at:
        at.ready()
        task = asked(hub)
        assert hub.answer(task, "red").status == 200
        for _ in range(2):
            again, other = hub.answer(task, "red"), hub.answer(task, "blue")
            assert isinstance(again.body, AnswerAnswer)
            assert (again.status, again.body.already, bytes(again.body.value)) == (200, True, b'"red"')
            assert isinstance(other.body, Problem)
            assert (other.status, other.body.code) == (409, "AnsweredBefore")
            assert 'was answered before with "red"' in other.body.message
            hub.ended(task)
    assert result(hub, task) == "painted red"


def test_answers_that_race_are_one(hub: LedgerInProcess) -> None:
    """[J17] Of two that come at once one is stored, and whoever lost is told which."""
    with WorkerAtHub(hub, Asker()) as at:
        at.ready()
        task = asked(hub)
        barrier, replies = threading.Barrier(2), dict[str, int]()

        def answer(value: str) -> None:
            barrier.wait(10)
            replies[value] = hub.answer(task, value).status

        threads = [threading.Thread(target=answer, args=(value,)) for value in ("red", "blue")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(replies.values()) == [200, 409]
        hub.ended(task)
        assert replies[result(hub, task).removeprefix("painted ")] == 200


def test_nobody_answers_in_time(hub: LedgerInProcess) -> None:
    """The handler gets an error of its own kind, the question is closed, and a late answer is refused."""
    with WorkerAtHub(hub, handler := Asker(timeout=0.3)) as at:
        at.ready()
        task = hub.submit()
        assert hub.ended(task).error == "nobody answered question ask-1 of task " + task + " in time"
        late = hub.answer(task, "red")

    assert [type(error) for error in handler.raised] == [AskTimeoutError]
    assert isinstance(late.body, Problem)
    assert (late.status, late.body.code) == (409, "QuestionClosed")
    assert "question_closed" in [event.get("status") for event in hub.events(task)]


def test_an_answer_that_was_first_beats_the_end_of_its_time() -> None:
    """[J17] While no word of it reached the worker the time ran out: what the hub says stands, and is used."""
    # The lease outlives the time in which the hub is away.
    numbers, handler = msgspec.structs.replace(NUMBERS, lease_ttl=60.0), Asker(timeout=5.0)
    with LedgerInProcess(numbers=numbers) as hub, WorkerAtHub(hub, handler) as at:
        at.ready()
        task = asked(hub)
        at.login.cut.set()
        hub.bus.deaf = True
        assert hub.answer(task, "blue").status == 200
        wait_until(lambda: at.worker.insight.counters().get("reports_repeated"), what="the try to close the question")
        at.login.cut.clear()
        assert hub.ended(task).state == "completed"
        painted = result(hub, task)

    assert (handler.raised, painted) == ([], "painted blue")


def test_heartbeats_bring_the_answer_when_the_network_is_deaf(hub: LedgerInProcess) -> None:
    """[A8] No message comes: the next beat tells."""
    with WorkerAtHub(hub, Asker()) as at:
        at.ready()
        task = asked(hub)
        hub.bus.deaf = True
        hub.answer(task, "blue")
        assert hub.ended(task).state == "completed"


def test_a_cancel_ends_the_wait(hub: LedgerInProcess) -> None:
    """The thread wakes with the exception of a cancel, and nobody answers any more."""
    with WorkerAtHub(hub, handler := Asker()) as at:
        at.ready()
        task = asked(hub)
        assert hub.cancel(task) == 202
        assert hub.ended(task).state == "canceled"
        wait_until(lambda: handler.raised, what="the end of the wait")
        late = hub.answer(task, "red")

    assert [type(error) for error in handler.raised] == [TaskCancelledError]
    assert isinstance(late.body, Problem)
    assert (late.status, late.body.code) == (409, "NotAsked")


def test_a_limit_of_time_ends_the_wait(hub: LedgerInProcess) -> None:
    """Waiting is part of the run: at its limit the task has failed, and the thread is free."""
    with WorkerAtHub(hub, handler := Asker()) as at:
        at.ready()
        task = hub.submit(max_runtime=4.0)
        row = hub.ended(task)
        wait_until(lambda: handler.raised, what="the end of the wait")

    assert (row.state, row.error_code, row.reason) == ("failed", "timeout", "max_runtime")
    assert [type(error) for error in handler.raised] == [TaskCancelledError]


def test_a_drain_gives_the_question_back_at_once(hub: LedgerInProcess) -> None:
    """[J16] The worker is gone long before its time to drain; the answer has the task run again, and is there."""
    with WorkerAtHub(hub, handler := Asker()) as at:
        at.ready()
        task = asked(hub)
        at.worker.stop(60)
    assert hub.row(task).state == "input-required"
    assert [type(error) for error in handler.raised] == [TaskCancelledError]

    with WorkerAtHub(hub, handler, name="two") as at:
        at.ready()
        assert hub.row(task).state == "input-required"
        assert hub.answer(task, "blue").status == 200
        assert hub.ended(task).state == "completed"
    assert result(hub, task) == "painted blue"
    assert len([event for event in hub.events(task) if event["type"] == "question"]) == 1


def test_a_lost_worker_leaves_the_question_open(hub: LedgerInProcess) -> None:
    """[J16] A newer process of its name ends its lease; the answer comes then, and no loss was counted."""
    handler = Asker()
    with WorkerAtHub(hub, handler) as lost:
        lost.ready()
        task = asked(hub)
        lost.login.cut.set()
        with WorkerAtHub(hub, handler) as at:
            at.ready()
            wait_until(lambda: stored(hub, task).inc is None, what="the loss")
            assert hub.answer(task, "red").status == 200
            assert hub.ended(task).state == "completed"
            row = stored(hub, task)
    assert (row.lost, row.attempt, handler.runs) == (0, 2, 2)
    assert result(hub, task) == "painted red"


def test_a_question_that_outlived_its_run_ends_with_its_time(hub: LedgerInProcess) -> None:
    """[J16] Nobody answers: the next run is told so at once, without asking again."""
    with WorkerAtHub(hub, handler := Asker(timeout=5.0)) as at:
        at.ready()
        task = asked(hub)
        at.worker.stop(60)
    with WorkerAtHub(hub, handler, name="two") as at:
        at.ready()
        wait_until(lambda: hub.sweep() or hub.row(task).state == "failed", what="the end")

    assert [type(error) for error in handler.raised] == [TaskCancelledError, AskTimeoutError]
    assert len([event for event in hub.events(task) if event["type"] == "question"]) == 1


def test_too_many_who_wait_keep_their_slots(hub: LedgerInProcess) -> None:
    """[J18] With as many questions open as may wait, the next one keeps its slot, and an answer lets all go on."""
    with WorkerAtHub(hub, Asker(timeout=300.0), slots=1) as at:
        at.ready()
        tasks = [hub.submit() for _ in range(MAX_ASKING + 1)]
        for task in tasks:
            hub.asking(task)
        last = hub.submit("other")
        seen = len(at.login.beats)
        wait_until(lambda: len(at.login.beats) > seen + 2, what="two heartbeats")
        assert hub.row(last).state == "pending"

        hub.answer(tasks[0], "red")
        assert hub.ended(last).state == "completed"
        for task in tasks[1:]:
            hub.answer(task, "blue")
        assert {hub.ended(task).state for task in tasks} == {"completed"}


def test_one_question_at_a_time(hub: LedgerInProcess) -> None:
    """A second thread of the run that asks meanwhile is refused; questions are named in order, or by the handler."""
    told: list[str] = []

    def handler(_task: Any, ctx: Any) -> str:
        def also() -> None:
            hub.asking(ctx.task_id)
            try:
                ctx.ask("And?")
            except RuntimeError as error:
                told.append(str(error))

        thread = threading.Thread(target=also)
        thread.start()
        first = ctx.ask("First?")
        thread.join(10)
        return f"{first}, {ctx.ask('Third?')}, {ctx.ask('Named?', ask_id='mine')}, {ctx.ask('Again?', ask_id='mine')}"

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        for ask in ("ask-1", "ask-3", "mine"):
            wait_until(partial(is_open, hub, task, ask), what=ask)
            wait_until(lambda: told, what="the refusal of the second")
            assert hub.answer(task, {"to": ask}, ask).status == 200
        hub.ended(task)

    assert told == ["question ask-1 of this task is still open: ask ask-2 when it is answered"]
    assert result(hub, task) == "{'to': 'ask-1'}, {'to': 'ask-3'}, {'to': 'mine'}, {'to': 'mine'}"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"question": ""}, "question"),
        ({"question": "x" * 20_000}, "publish an artifact"),
        ({"question": "?", "schema": {"type": 3}}, "schema of the question"),
        ({"question": "?", "timeout": 0}, "timeout"),
        ({"question": "?", "ask_id": "x" * 65}, "askId"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_the_handler(hub: LedgerInProcess, wrong: dict[str, Any], text: str) -> None:
    """A slip is a ValueError that says what is wrong, and the hub never hears of it."""

    def handler(_task: Any, ctx: Any) -> str:
        with pytest.raises(ValueError, match=text):
            ctx.ask(**wrong)
        return "refused"

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        assert hub.ended(hub.submit()).state == "completed"
