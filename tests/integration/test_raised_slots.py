"""Whatever handlers raise, and however often: the slots of their worker are all there afterwards."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from chaos.raised import RAISED
from support import wait_until

from blocks_worker.protocol.leases import MAX_ERROR
from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

SLOTS = 4
#: How often each exception is raised, and so many cancels, in short and with --long.
ROUNDS, LONG = (4, 40), (200, 2_000)
BATCH = 40


def executors(others: set[threading.Thread]) -> set[str]:
    """Return the names of the slots' threads, without those of workers of before."""
    return {thread.name for thread in set(threading.enumerate()) - others if thread.name.startswith("executor-")}


class Hostile:
    """Raise what the text names, wait for a cancel, or wait until as many as there are slots do so together."""

    def __init__(self) -> None:
        self.inside = threading.Barrier(SLOTS + 1)
        self.gate = threading.Event()

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do what the text says."""
        if task.text() == "together":
            self.inside.wait(20)
            self.gate.wait(20)
            return "together"
        if task.text() == "cancel":
            ctx.wait(30)
            RAISED["interrupt"]()
        return RAISED[task.text()]()


def test_slots_are_there_after_whatever_is_raised(request: pytest.FixtureRequest) -> None:
    """Twenty kinds of exceptions, and cancels that end in one: each slot takes its next task. [C3] [C9] [C10]"""
    rounds, cancels = LONG if request.config.getoption("--long") else ROUNDS
    handler, others = Hostile(), set(threading.enumerate())
    with LocalStack({"hostile": {"handler": handler, "concurrency": SLOTS}}) as stack:
        before = executors(others)
        for texts in _batches([*RAISED] * rounds):
            for text, state, error in _ended(stack, texts):
                assert state == "failed", text
                assert error, text
                assert len(error.encode(errors="replace")) <= MAX_ERROR, text
        for texts in _batches(["cancel"] * cancels):
            assert {state for _, state, _ in _ended(stack, texts)} == {"canceled"}
        together = stack.client.send_many([{"agent_name": "hostile", "request_parts": "together"}] * SLOTS)
        handler.inside.wait(20)
        handler.gate.set()

        assert [session.text(20) for session in together] == ["together"] * SLOTS
        wait_until(lambda: executors(others) == before, what="the threads of the slots are those of the start")
    assert len(before) == SLOTS


def _batches(texts: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(texts), BATCH):
        yield texts[first : first + BATCH]


def _ended(stack: LocalStack, texts: list[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Send a task for each text, cancel what waits for that, and yield how each ended."""
    sessions = stack.client.send_many([{"agent_name": "hostile", "request_parts": text} for text in texts])
    for text, session in zip(texts, sessions, strict=True):
        if text == "cancel":
            session.cancel("enough")
    for text, session in zip(texts, sessions, strict=True):
        end = session.wait_for_terminal(30)
        yield text, end.state, end.error
        session.close()


def test_coroutines_share_their_loop_with_whatever_is_raised() -> None:
    """What one coroutine raises ends its own task, and the loop of all goes on. [C3]"""
    meeting = asyncio.Event()

    async def handler(task: Any) -> str:
        if task.text() in RAISED:
            RAISED[task.text()]()
        if task.text() == "waits":
            await meeting.wait()
        meeting.set()
        return "done"

    with LocalStack({"hostile": {"handler": handler, "concurrency": SLOTS}}) as stack:
        waiting = stack.client.send_message("hostile", "waits")
        for text, state, _ in _ended(stack, [*RAISED]):
            assert state in {"failed", "canceled"}, text
        assert stack.client.run("hostile", "go on", 20).text == "done"
        assert waiting.text(20) == "done"


def test_a_callback_that_leaves_takes_no_task_along() -> None:
    """Who is told of an error and calls sys.exit ends nothing but his own call: the task has its end. [C3]"""

    def leaves(*_told: object) -> None:
        raise SystemExit(5)

    with LocalStack({"hostile": {"handler": Hostile(), "concurrency": 1, "on_error": leaves}}) as stack:
        ends = list(_ended(stack, ["usual", "exit"]))

    assert [state for _, state, _ in ends] == ["failed", "failed"]
