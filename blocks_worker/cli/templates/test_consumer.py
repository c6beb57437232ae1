"""Tests of the consumer, with an agent that stands in for the real one."""

import pytest
from blocks_worker import StartTaskMessage, TaskFailedError
from blocks_worker.testing import LocalStack

from consumer import AGENT, ask


def shout(task: StartTaskMessage) -> str:
    """Answer as the agent might."""
    return task.text().upper()


def refuse(_task: StartTaskMessage) -> str:
    """Fail as the agent might."""
    raise ValueError("not today")


def test_it_returns_the_result() -> None:
    """What the agent answers is what the consumer gets."""
    with LocalStack({AGENT: shout}) as stack:
        assert ask(stack.client, "hello") == "HELLO"


def test_it_raises_what_went_wrong() -> None:
    """A task that failed is an exception that says why."""
    with LocalStack({AGENT: refuse}) as stack, pytest.raises(TaskFailedError):
        ask(stack.client, "hello")
