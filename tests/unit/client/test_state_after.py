"""How a task stands after each event."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.history import History
from blocks_worker.client.state_after import state_after


def event(kind: str, **fields: Any) -> TaskEvent:
    """Return an event."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, **fields})


def question(ask: str = "ask-1") -> TaskEvent:
    """Return a question."""
    return event("question", id=ask, text="?")


def after(*story: TaskEvent) -> list[str]:
    """Return the states after each of the events, from the start on."""
    history, state, found = History(), "pending", []
    for each in story:
        history.add([each])
        state = state_after(state, each, history.question)
        found.append(state)
    return found


def test_a_question_is_open_until_it_is_answered() -> None:
    """Progress of another thread meanwhile changes nothing; the answer, or the end of its time, does."""
    answered = event("system", status="answered", id="ask-1", state="running")
    closed = event("system", status="question_closed", id="ask-2", state="pending")

    assert after(question(), event("progress"), answered, event("artifact")) == [
        *["input-required"] * 2,
        *["running"] * 2,
    ]
    assert after(question("ask-2"), closed) == ["input-required", "pending"]


def test_an_answer_that_overtakes_its_question_is_the_last_word() -> None:
    """The hub's news may come before the event of the worker: the question then is closed."""
    answered = event("system", status="answered", id="ask-1", state="running")

    assert after(event("progress"), answered, question()) == ["running"] * 3


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        (question(), event("cancel_requested"), "running"),
        (event("progress"), event("cancel_requested"), "running"),
        (question(), event("terminal", state="canceled"), "canceled"),
        (event("system", status="paused"), event("progress", message="x"), "paused"),
        (event("system", status="paused"), event("system", status="warning"), "paused"),
        (event("progress"), event("system", status="restarted"), "pending"),
        (event("progress"), event("odd"), "running"),
    ],
)
def test_what_else_happens(first: TaskEvent, then: TaskEvent, expected: str) -> None:
    """Each event leads where it says, or leaves the state as it is."""
    assert after(first, then)[-1] == expected
