"""Handlers that keep, change or fail in ways that must stay their own: in one worker, on a whole system."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until

from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator


class Big:
    """Something large that can be watched."""

    def __init__(self) -> None:
        self.content = bytes(1_000_000)


@pytest.fixture
def nobody_collects() -> Iterator[None]:
    """Let only what nobody refers to go, and have no log keep an exception: pytest's own does."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("nobody_collects")
@pytest.mark.timeout(600)
def test_failures_keep_nothing_of_their_frames(request: pytest.FixtureRequest) -> None:
    """What a handler held when it raised is let go with its task, without a search for garbage. [C10]"""
    alive: weakref.WeakSet[Big] = weakref.WeakSet()
    made = [0]

    def fails(task: Any) -> None:
        big = Big()
        alive.add(big)
        made[0] += 1
        try:
            {}[task.text()]
        except KeyError as error:
            raise ValueError("with a cause and its frames") from error

    tasks = 5_000 if request.config.getoption("--long") else 60
    with LocalStack({"fails": {"handler": fails, "concurrency": 4}}) as stack:
        for first in range(0, tasks, 20):
            sent = stack.client.send_many([{"agent_name": "fails", "request_parts": str(first)}] * 20)
            for session in sent:
                assert session.wait_for_terminal(30).state == "failed"
                session.close()
        wait_until(lambda: not alive, what="all is let go")

    assert made == [tasks]


def test_the_input_of_a_run_is_its_own() -> None:
    """A handler that changes its input changes it for nobody: the next run of the task has what was sent. [C19]"""
    seen: list[Any] = []

    def spoils(task: Any) -> str:
        seen.append((task.text(), task.json("numbers"), dict(task.metadata), len(task.request_parts)))
        task.request_parts[0].text = "spoilt"
        task.json("numbers").append(4)
        task.metadata.clear()
        task.request_parts.clear()
        task.task_id = "another"
        if len(seen) < 3:
            raise ValueError("again")
        return "done"

    with LocalStack({"spoils": spoils}) as stack:
        session = stack.client.send_message(
            "spoils",
            [{"part_id": "p", "text": "hi"}, {"part_id": "numbers", "text": "[1, 2, 3]"}],
            metadata={"a": {"b": 1}},
            retry_policy={"maxAttempts": 3, "initialDelaySec": 0.01},
        )
        assert session.text(30) == "done"
        assert stack.client.get_task(session.task_id).state == "completed"

    assert seen == [("hi", [1, 2, 3], {"a": {"b": 1}}, 2)] * 3


@pytest.mark.timeout(600)
def test_slots_are_there_after_any_number_of_cancels(request: pytest.FixtureRequest) -> None:
    """No exception is raised into a thread: after very many cancels each slot still takes its task. [C9]"""
    slots, tasks = 4, 10_000 if request.config.getoption("--long") else 200
    gate, inside = threading.Event(), threading.Barrier(slots + 1)

    def waits(task: Any, ctx: Any) -> str:
        if task.text() == "together":
            inside.wait(20)
            gate.wait(20)
            return "together"
        ctx.wait(30)
        return "cancelled"

    with LocalStack({"waits": {"handler": waits, "concurrency": slots}}) as stack:
        before = {thread.name for thread in threading.enumerate() if thread.name.startswith("executor-")}
        for _ in range(tasks // 20):
            sent = stack.client.send_many([{"agent_name": "waits", "request_parts": "x"}] * 20)
            for session in sent:
                session.cancel()
            for session in sent:
                assert session.wait_for_terminal(30).state == "canceled"
                session.close()
        sent = stack.client.send_many([{"agent_name": "waits", "request_parts": "together"}] * slots)
        inside.wait(20)
        after = {thread.name for thread in threading.enumerate() if thread.name.startswith("executor-")}
        gate.set()

        assert [session.text(20) for session in sent] == ["together"] * slots
    assert after == before, "the threads are those that were there first"
    assert len(before) == slots
