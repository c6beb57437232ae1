"""Questions from the consumer's side: session, client, callbacks, command line; hub, worker and network are real."""

from __future__ import annotations

import json
import os
import pty
import queue
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from support import wait_until

from blocks_worker import AskTimeoutError, RpcError, TaskEventCallbacks
from blocks_worker.cli import questions
from blocks_worker.cli.main import blocks
from blocks_worker.testing import LocalStack, run_handler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from blocks_worker import TaskEvent

COLOUR = {"type": "string", "enum": ["red", "blue"]}


def painter(task: Any, ctx: Any) -> str:
    """Ask for a colour, and for a number if the text says so."""
    colour = ctx.ask("Which colour?", COLOUR)
    if task.text() == "twice":
        return f"{colour} {ctx.ask('How often?', {'type': 'integer', 'minimum': 1})}"
    return f"{task.text()} {colour}"


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """Run an agent that asks."""
    with LocalStack({"painter": {"handler": painter, "concurrency": 4}}) as running:
        yield running


@pytest.fixture
def typed(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what types a command for the hub of this stack."""
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{stack.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", stack.api_key)

    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(blocks, list(arguments), input=text)

    return run


def asked(session: Any) -> TaskEvent:
    """Wait for the question of a task."""
    wait_until(lambda: session.open_question, 10, "the question")
    event: TaskEvent = session.open_question
    return event


def test_a_session_shows_the_question_and_answers_it(stack: LocalStack) -> None:
    """State, event and row tell what is asked; the answer is taken, and everybody is told that it was."""
    with stack.client.send_message("painter", "wall") as session:
        event = asked(session)
        assert (event.id, event.text, event.schema, event.timeout) == ("ask-1", "Which colour?", COLOUR, 600.0)
        assert session.state == "input-required"
        assert stack.client.get_task(session.task_id).state == "input-required"
        assert session.held_up() == "it waits for an answer"

        assert session.answer("ask-1", "red") == "running"
        assert session.text(20) == "wall red"
        assert session.open_question is None
        assert ("system", "answered", "ask-1") in [(one.type, one.status, one.id) for one in session.list_events()]


def test_a_callback_answers(stack: LocalStack) -> None:
    """`on_question` is called with each question, and may answer from there."""
    with stack.client.send_message("painter", "twice") as session:
        values: dict[str, Any] = {"ask-1": "blue", "ask-2": 3}
        session.on_question(lambda event: session.answer(event.id, values[event.id]))
        assert session.text(20) == "blue 3"


def test_who_joins_later_sees_what_is_open(stack: LocalStack) -> None:
    """A second client finds the question by the task's id, as does a subscription; the first answer stands for both."""
    heard = queue.SimpleQueue[Any]()
    with stack.client.send_message("painter", "door") as session:
        asked(session)
        callbacks = TaskEventCallbacks(on_question=heard.put)
        with stack.client.subscribe_to_task(session.task_id, None, callbacks), connected(stack, session) as joined:
            assert heard.get(timeout=10).text == "Which colour?"
            assert joined.open_question is not None
            assert joined.answer("ask-1", "blue") == "running"
            with pytest.raises(RpcError, match='was answered before with "blue": that stands') as refused:
                session.answer("ask-1", "red")
            assert (refused.value.code, refused.value.details["value"]) == ("AnsweredBefore", "blue")
            assert session.text(20) == "door blue"


def connected(stack: LocalStack, session: Any) -> Any:
    """Return a session of the task of another one."""
    return stack.client.connect(session.task_id)


def test_a_wrong_answer_names_what_was_wrong(stack: LocalStack) -> None:
    """Nothing is lost by it: the question is open, and the right answer is taken."""
    with stack.client.send_message("painter", "twice") as session:
        asked(session)
        with pytest.raises(RpcError, match="must be one of red, blue") as refused:
            stack.client.answer_task(session.task_id, "green")
        assert refused.value.code == "InvalidAnswer"
        assert session.state == "input-required"
        stack.client.answer_task(session.task_id, "red")
        wait_until(lambda: session.open_question is not None and session.open_question.id == "ask-2", 10)
        with pytest.raises(RpcError, match="must be at least 1"):
            session.answer("ask-2", 0)
        session.answer("ask-2", 2)
        assert session.text(20) == "red 2"
        with pytest.raises(RpcError, match="asks nothing: it is completed"):
            stack.client.answer_task(session.task_id, "red")


def test_nobody_elses_task_is_answered(stack: LocalStack) -> None:
    """[K1] One that is not there, and so one of another owner, is not found by its name; JSON cannot hold all."""
    with pytest.raises(RpcError) as refused:
        stack.client.answer_task("01900000-0000-7000-8000-000000000000", "red", "ask-1")
    assert refused.value.status == 404
    for act in (
        lambda: stack.client.answer_task("nonsense", 1),
        lambda: stack.client.get_task("nonsense"),
        lambda: stack.client.cancel_task("nonsense"),
        lambda: stack.client.pause_task("nonsense"),
        lambda: stack.client.retry_task("nonsense"),
        lambda: stack.client.purge_task("nonsense"),
    ):
        with pytest.raises(RpcError, match=r"no such task 'nonsense', .*list_tasks\(\) or 'blocks tasks'") as unknown:
            act()
        assert (unknown.value.code, unknown.value.status) == ("NotFound", 404)
    with stack.client.send_message("painter", "wall") as session:
        asked(session)
        with pytest.raises(ValueError, match="JSON"):
            session.answer("ask-1", object())
        session.cancel()
        assert session.wait_for_terminal(20).state == "canceled"


def test_a_question_is_answered_at_the_command_line(stack: LocalStack, typed: Any) -> None:
    """`blocks tasks` finds who waits, `blocks answer` answers, and says what does not fit or is not asked."""
    with stack.client.send_message("painter", "twice") as session:
        task = session.task_id
        asked(session)
        listed = typed("tasks", "--state", "input-required", "--json")
        assert task in [row["taskId"] for row in json.loads(listed.stdout)]
        shown = next(line for line in typed("task", task).stdout.splitlines() if line.startswith("question:"))
        assert re.fullmatch(r"question: +ask-1: Which colour\? \(red, blue\), open until \d{4}-\S+\+00:00", shown)

        wrong = typed("answer", task, "green")
        assert (wrong.exit_code, "must be one of red, blue" in wrong.stderr) == (1, True)
        done = typed("answer", task, "blue", "--json")
        assert (done.exit_code, json.loads(done.stdout)["value"]) == (0, "blue")
        wait_until(lambda: session.open_question is not None and session.open_question.id == "ask-2", 10)
        assert "answered before" in typed("answer", task, "red", "--id", "ask-1").stderr
        assert typed("answer", task, "4").stdout.startswith("question ask-2 of task")
        assert session.text(20) == "blue 4"
        late = typed("answer", task, "5").stderr
        assert "asks nothing: it is completed; its question ask-2 was answered before\n" in late


def test_send_tells_how_to_answer(stack: LocalStack, typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked, standard error says what is asked and by which command it is answered."""
    tell, is_told = questions.told, threading.Event()

    def told(event: TaskEvent) -> str:
        is_told.set()
        return tell(event)

    def waiting() -> str | None:
        found = stack.client.list_tasks().tasks[:1]
        return found[0].task_id if found and found[0].state == "input-required" else None

    def answer() -> None:
        # What is answered already is not told any more.
        assert is_told.wait(30)
        stack.client.answer_task(wait_until(waiting, 20, "the question"), "red")

    monkeypatch.setattr(questions, "told", told)

    thread = threading.Thread(target=answer)
    thread.start()
    result = typed("send", "painter", "gate")
    thread.join(20)

    assert (result.exit_code, result.stdout) == (0, "gate red\n")
    assert re.search(
        r"question ask-1: Which colour\? \(red, blue\); answer it with '.*blocks answer .* VALUE'", result.stderr
    )


def test_a_person_is_asked_until_the_answer_fits(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the question is put there, with what may be answered; a slip is told and asked again."""
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, encoding="utf-8") as stdin, stack.client.send_message("painter", "roof") as session:
        monkeypatch.setattr("sys.stdin", stdin)
        os.write(controller, b"green\nred\n")
        questions.ask(session, asked(session))
        assert session.text(20) == "roof red"
    os.close(controller)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", None, "5"),
        ("5", {"type": "integer"}, 5),
        ("5", {"type": "string"}, "5"),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("yes", {"type": "boolean"}, "yes"),
        ("5", {"type": "string", "minLength": 2}, "5"),
        ("7", {"type": "integer", "maximum": 6}, 7),
    ],
)
def test_a_text_is_what_the_question_wants(text: str, schema: dict[str, Any] | None, value: object) -> None:
    """What is typed stays a text, unless the schema takes no text and what it holds is JSON."""
    assert questions.value_of(text, schema) == value


def test_a_handler_under_test_is_given_answers() -> None:
    """In the order of its questions or by their names; without one nobody answers, and a misfit is the test's error."""
    run = run_handler(painter, "twice", answers=["red", 2])
    named = run_handler(painter, "twice", answers={"ask-2": 1, "ask-1": "blue"})
    silent = run_handler(painter, "twice", answers=["red"])

    assert (run.state, run.text(), run.questions) == ("completed", "red 2", ["Which colour?", "How often?"])
    assert named.text() == "blue 1"
    assert (silent.state, type(silent.error)) == ("failed", AskTimeoutError)
    with pytest.raises(ValueError, match=r"ask-1 cannot be given: .* must be one of red, blue"):
        run_handler(painter, "x", answers=["green"])
    with pytest.raises(TypeError, match="a list of answers or a dict"):
        run_handler(painter, "x", answers="red")
