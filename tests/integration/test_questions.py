"""Questions to the consumer: who waits, who answers, and what stands; a worker at a ledger in this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from support_worker import LedgerInProcess, WorkerAtHub

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    import base64

    found = [event["artifactRef"]["data"] for event in hub.events(task) if event["type"] == "artifact"]
    return base64.b64decode(found[-1]).decode()


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
