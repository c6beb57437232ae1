"""What a user's test may have go wrong in a stack: each fault bites, and ends with its block."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_metrics import page

from blocks_worker import HubUnavailableError, RpcError, StartTaskMessage, TaskContext
from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator


def echo(task: StartTaskMessage) -> str:
    """Say it back."""
    return f"Echo: {task.text()}"


@contextmanager
def unsent(stack: LocalStack, text: str) -> Iterator[list[str]]:
    """Ask echo on a thread while the block lasts, and wait for the answer after it."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(stack.run("echo", text).text))
    thread.start()
    yield answers
    thread.join(30)


def test_a_killed_worker_loses_its_lease_and_the_task_runs_again() -> None:
    """The second run is the task's end; what the first one returns counts for nothing, and the name stays. [R-65]"""
    begun, returned = threading.Event(), threading.Event()

    def patient(_task: StartTaskMessage, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            begun.set()
            ctx.wait(60)
            returned.set()
        return f"run {ctx.attempt}"

    with LocalStack({"patient": patient, "echo": echo}) as stack:
        before = stack.agents["patient"]
        with stack.client.send_message("patient") as session:
            assert begun.wait(20)
            stack.faults.kill_worker("patient")
            assert session.result(30).text == "run 2"
        assert returned.wait(20), "its handler was told to stop"
        assert before.state == "stopped"
        assert stack.agents["patient"].instance_id == before.instance_id
        assert stack.run("echo", "x").text == "Echo: x"
        with pytest.raises(KeyError, match="no agent 'nobody' in this stack; it has patient, echo"):
            stack.faults.kill_worker("nobody")


def test_a_handler_that_obeys_the_loss_of_its_lease_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Who stops by `check_cancelled` because its task was taken away is not logged as an error. [P6]"""
    begun, stopped = threading.Event(), threading.Event()

    def patient(_task: StartTaskMessage, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            begun.set()
            ctx.wait(60)
            try:
                ctx.check_cancelled()
            finally:
                stopped.set()
        return f"run {ctx.attempt}"

    with LocalStack({"patient": patient}) as stack, stack.client.send_message("patient") as session:
        assert begun.wait(20)
        stack.faults.kill_worker("patient")
        assert session.result(30).text == "run 2"
        assert stopped.wait(20)

    assert "handler_failed" not in caplog.messages


def test_a_handler_that_hears_no_cancel_holds_up_no_kill() -> None:
    """A thread that is stuck is left behind: the next worker does not wait for it. [R-65]"""
    begun, stuck = threading.Event(), threading.Event()

    def hangs(_task: StartTaskMessage, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            begun.set()
            stuck.wait(60)
        return f"run {ctx.attempt}"

    with LocalStack({"hangs": hangs}) as stack:
        with stack.client.send_message("hangs") as session:
            assert begun.wait(20)
            stack.faults.kill_worker("hangs")
            assert session.result(30).text == "run 2"
        stuck.set()


def test_a_hub_that_is_unavailable_is_asked_again() -> None:
    """Every call is answered with 503; a task that was sent meanwhile is taken afterwards. [R-65]"""
    with LocalStack(echo) as stack:
        with ExitStack() as after, stack.faults.hub_unavailable():
            answers = after.enter_context(unsent(stack, "one"))
            with pytest.raises(RpcError) as refused:
                stack.client.list_tasks()
            assert refused.value.status == 503
            assert answers == []
        assert answers == ["Echo: one"]


def test_a_hub_that_was_stopped_comes_back_with_its_ledger() -> None:
    """Nobody answers meanwhile; what ran to its end meanwhile is told afterwards. [R-65]"""
    begun, gate = threading.Event(), threading.Event()
    runs: list[int] = []

    def waits(_task: StartTaskMessage, ctx: TaskContext) -> str:
        runs.append(ctx.attempt)
        begun.set()
        gate.wait(60)
        return "done"

    with LocalStack({"waits": waits}) as stack:
        url = stack.url
        with stack.client.send_message("waits") as session:
            assert begun.wait(20)
            with stack.faults.hub_stopped():
                gate.set()
                with pytest.raises(HubUnavailableError):
                    stack.client.list_tasks()
            assert session.result(30).text == "done"
        assert stack.url == url
        assert runs == [1]


def test_late_messages_come_late() -> None:
    """Offer and end each take their time, and afterwards none do. [R-65]"""
    with LocalStack(echo) as stack:
        with stack.faults.messages_late(0.3):
            begun = time.monotonic()
            assert stack.run("echo", "one").text == "Echo: one"
            assert time.monotonic() - begun >= 0.3
        wait_until(lambda: _seconds(stack) < 0.3, what="tasks are as quick as before")
        for seconds in (0, -1, 6):
            with pytest.raises(ValueError, match="above 0 and at most 5 seconds"), stack.faults.messages_late(seconds):
                pass


def _seconds(stack: LocalStack) -> float:
    begun = time.monotonic()
    stack.run("echo", "again")
    return time.monotonic() - begun


def test_lost_messages_are_made_up_for() -> None:
    """Nobody is rung, though the hub has the task; a heartbeat brings it. [R-65] [A6]"""
    with LocalStack({"echo": {"handler": echo, "heartbeat_ms": 1000}}) as stack:
        with stack.faults.messages_lost():
            session = stack.client.send_message("echo", "one")
            with pytest.raises(TimeoutError):
                session.wait_for_terminal(timeout=0.2)
            assert [task.task_id for task in stack.client.list_tasks().tasks] == [session.task_id]
        with session:
            assert session.result(30).text == "Echo: one"


def test_a_cut_network_is_back_when_its_block_raised() -> None:
    """Whatever happens in the block, afterwards the network is there. [R-65]"""
    with LocalStack(echo) as stack:

        def fail() -> None:
            with stack.faults.network_cut():
                assert stack.client.list_tasks().tasks == [], "the hub is not cut"
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert stack.run("echo", "one").text == "Echo: one"


def test_a_fault_that_outlives_its_stack_changes_nothing() -> None:
    """No hub is started that nobody would end, and nothing can go wrong any more. [R-65]"""
    before = set(threading.enumerate())
    with ExitStack() as later, LocalStack(echo) as stack:
        for fault in (stack.faults.hub_unavailable, stack.faults.messages_lost, stack.faults.hub_stopped):
            later.enter_context(fault())
    assert "hub" not in {thread.name for thread in set(threading.enumerate()) - before}
    for fault in (stack.faults.network_cut, stack.faults.hub_stopped, stack.faults.messages_lost):
        with pytest.raises(RuntimeError, match="the stack does not run"), fault():
            pass
    with pytest.raises(RuntimeError, match="the stack does not run"):
        stack.faults.kill_worker("echo")


def test_a_worker_that_is_killed_while_no_hub_answers_is_replaced_afterwards() -> None:
    """It is dead until the fault is over, however often it is killed; then its agent is served again. [R-65]"""
    with LocalStack(echo) as stack:
        for fault in (stack.faults.hub_stopped, stack.faults.hub_unavailable):
            before = stack.agents["echo"]
            with fault():
                stack.faults.kill_worker("echo")
                stack.faults.kill_worker("echo")
                assert stack.agents["echo"].state == "stopped"
            wait_until(lambda: stack.agents["echo"].state == "ready", what="the new one is ready")
            assert stack.agents["echo"].instance_id == before.instance_id
            assert stack.run("echo", "one").text == "Echo: one"


def test_a_worker_that_is_killed_while_the_network_is_cut_is_replaced_at_once() -> None:
    """The new one is let in; that it hears its hub shows only afterwards. An inner cut ends no outer one. [R-65]"""
    with LocalStack({"echo": {"handler": echo, "heartbeat_ms": 1000}}) as stack:
        before = stack.agents["echo"]
        with stack.faults.network_cut():
            with stack.faults.network_cut():
                stack.cut_network()
            stack.restore_network()
            assert page(f"{stack.url}/readyz").status == 503, "still cut"
            stack.faults.kill_worker("echo")
            assert stack.agents["echo"] is not before
        assert stack.run("echo", "one").text == "Echo: one"


def test_a_hub_that_is_started_again_has_the_faults_that_hold() -> None:
    """Neither a restart nor an inner block of the same kind ends an outer one. [R-65]"""
    with LocalStack(echo) as stack:
        with stack.faults.hub_unavailable():
            with stack.faults.hub_unavailable():
                stack.restart_hub()
            with pytest.raises(RpcError) as refused:
                stack.client.list_tasks()
            assert refused.value.status == 503
        with ExitStack() as late:
            with stack.faults.hub_stopped():
                stack.restart_hub()
                with pytest.raises(HubUnavailableError):
                    stack.client.list_tasks()
                late.enter_context(stack.faults.messages_late(0.3))
            begun = time.monotonic()
            assert stack.run("echo", "one").text == "Echo: one"
            assert time.monotonic() - begun >= 0.3
