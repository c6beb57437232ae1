"""Pipes against the real ledger: they live on after their handler, and end in each way that there is."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.protocol.tasks import TaskRow
    from blocks_worker.worker.worker import Worker

PIPE: dict[str, Any] = {"task_kind": "pipe", "duration": 5}


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


def outcome(row: TaskRow) -> tuple[Any, ...]:
    """Return how a task ended."""
    return row.state, row.error, row.error_code, row.reason, row.completion_reason


class Opening:
    """A handler that returns at once and keeps its context."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []
        self.messages: list[Any] = []

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        self.contexts.append(ctx)
        self.messages.append(task)
        return "open"


def opened(hub: LedgerInProcess, worker: Worker, **fields: Any) -> str:
    """Submit a pipe and wait until its handler has returned and the hub knows that it takes no slot."""
    task = hub.submit(**PIPE, **fields)
    parked(hub, task)
    assert worker.active_tasks == [task]
    return task


def parked(hub: LedgerInProcess, task: str) -> None:
    """Wait until the hub knows that a run takes no slot."""

    def is_parked() -> bool:
        row = hub.store.read(lambda ledger: ledger.task(task))
        return row is not None and bool(row.parked)

    wait_until(is_parked, 10, f"{task} to be parked")


def test_a_pipe_goes_on_after_its_handler(hub: LedgerInProcess) -> None:
    """Its artifacts are published, no terminal is, the one slot is free, and the lease stays over lists and sweeps."""
    handler = Opening()
    with WorkerAtHub(hub, handler) as at:
        task = opened(hub, at.ready())

        wait_until(lambda: len(hub.events(task)) > 1, what="its artifact")
        assert [event["type"] for event in hub.events(task)] == ["progress", "artifact"]
        assert hub.ended(hub.submit("request")).state == "completed"
        beats = len(at.login.beats)
        wait_until(lambda: len(at.login.beats) > beats + 3, what="some heartbeats")
        hub.sweep()
        assert hub.row(task).state == "running"
        assert handler.messages[0].task_kind == "pipe"
        assert handler.messages[0].duration == PIPE["duration"]
        assert handler.messages[0].duration_expires_at_ms == hub.row(task).expires_at
        assert not handler.contexts[0].is_cancelled


@pytest.mark.parametrize(
    ("terminated", "reason", "expected"),
    [
        (False, "enough", ("canceled", None, None, "enough", None)),
        (True, None, ("canceled", None, None, "terminated", None)),
    ],
)
def test_an_open_pipe_is_canceled(
    hub: LedgerInProcess, reason: str | None, expected: tuple[Any, ...], *, terminated: bool
) -> None:
    """Cancel and terminate end a pipe whose handler has returned, with their own words, and its context says so."""
    handler = Opening()
    with WorkerAtHub(hub, handler) as at:
        task = opened(hub, at.ready())
        assert hub.cancel(task, reason, terminated=terminated) == 202

        assert outcome(hub.ended(task)) == expected
        wait_until(lambda: handler.contexts[0].is_cancelled, what="the event")
        wait_until(lambda: at.worker.active_tasks == [], what="the end of the list")


def test_a_cancel_while_the_handler_works_publishes_what_it_returns() -> None:
    """After the return: artifacts, then the terminal `canceled`; the pipe does not stay open."""

    def handler(_task: Any, ctx: Any) -> str:
        ctx.wait(30)
        return "partial"

    numbers = msgspec.structs.replace(NUMBERS, cancel_grace=30.0)
    with LedgerInProcess(numbers=numbers) as hub, WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit(**PIPE)
        hub.running(task)
        hub.cancel(task)

        assert hub.ended(task).state == "canceled"
        assert [event["type"] for event in hub.events(task)][-2:] == ["artifact", "terminal"]


def test_a_handler_that_raises_ends_its_pipe(hub: LedgerInProcess) -> None:
    """A pipe whose handler raises has failed, as a request has."""

    def handler(_task: Any) -> str:
        raise LookupError("gone")

    with WorkerAtHub(hub, handler) as at:
        at.ready()

        assert outcome(hub.ended(hub.submit(**PIPE))) == ("failed", "gone", "handler_error", None, None)


@pytest.mark.parametrize("returns", [True, False])
def test_the_end_of_the_duration_ends_a_pipe(hub: LedgerInProcess, *, returns: bool) -> None:
    """[R-26] The worker's own clock ends it, before its handler has returned or after: nobody has failed."""
    seen: list[bool] = []

    def handler(_task: Any, ctx: Any) -> str:
        if not returns:
            ctx.wait(30)
            seen.append(ctx.is_expired)
        return "done"

    register(hub)
    task = hub.submit(**PIPE)
    hub.expires_in(task, 5.0)
    with WorkerAtHub(hub, handler) as at:
        at.ready()

        assert outcome(hub.ended(task, 30)) == ("completed", None, None, None, "duration_expired")
        wait_until(lambda: seen == ([] if returns else [True]), what="the handler")
        wait_until(lambda: at.worker.counters.get("tasks_expired") == 1, what="the count")


def register(hub: LedgerInProcess) -> None:
    """Have the agent known by a worker that has left again."""
    with WorkerAtHub(hub, Opening(), name="gone") as at:
        at.ready()


def test_a_time_already_past_starts_no_handler(hub: LedgerInProcess) -> None:
    """[R-26] A pipe whose time is over when its lease comes ends at once."""
    handler = Opening()
    register(hub)
    task = hub.submit(**PIPE)
    hub.expires_in(task, -1)
    with WorkerAtHub(hub, handler) as at:
        at.ready()

        assert outcome(hub.ended(task)) == ("completed", None, None, None, "duration_expired")
        assert handler.contexts == []


def test_a_deaf_handler_holds_no_end_up(hub: LedgerInProcess) -> None:
    """[R-26] The handler of a pipe whose time is over is given up after the grace, its slot is free again."""
    release = threading.Event()
    register(hub)
    task = hub.submit(**PIPE)
    hub.expires_in(task, 1.0)
    with WorkerAtHub(hub, lambda _task: release.wait(60)) as at:
        at.ready()
        wait_until(lambda: hub.row(task).state == "completed", 15, "the end of the pipe")

        assert outcome(hub.row(task)) == ("completed", None, None, None, "duration_expired")
        wait_until(lambda: at.worker.state == "ready", what="the slot")
        release.set()


def test_the_agent_ends_its_pipe(hub: LedgerInProcess) -> None:
    """`publish_terminal` returns when the hub has recorded the end; a second end is refused."""
    with WorkerAtHub(hub, Opening()) as at:
        worker = at.ready()
        task = opened(hub, worker)
        worker.publish_terminal(task, Ending("failed", error="no more data", error_code="handler_error"), 10)

        assert outcome(hub.row(task)) == ("failed", "no more data", "handler_error", None, None)
        with pytest.raises(RuntimeError, match="does not hold"):
            worker.publish_terminal(task, Ending("completed"), 10)


def test_the_end_by_the_agent_waits_for_the_hub(hub: LedgerInProcess) -> None:
    """While the hub is away the end is not confirmed; it goes on being told and is recorded in the end."""
    with WorkerAtHub(hub, Opening()) as at:
        worker = at.ready()
        task = opened(hub, worker)
        at.login.cut.set()
        with pytest.raises(TimeoutError):
            worker.publish_terminal(task, Ending("completed"), 0.3)
        at.login.cut.clear()

        assert hub.ended(task).state == "completed"


def test_only_pipes_are_ended_by_the_agent(hub: LedgerInProcess) -> None:
    """What is not held here, and what ends by its handler's return, is refused."""
    begun = threading.Event()

    def handler(_task: Any, ctx: Any) -> str:
        begun.set()
        ctx.wait(30)
        return "done"

    with WorkerAtHub(hub, handler) as at:
        worker = at.ready()
        task = hub.submit()
        # A granted task is running in the ledger before the worker has heard of it.
        assert begun.wait(10)

        with pytest.raises(RuntimeError, match="no pipe"):
            worker.publish_terminal(task, Ending("completed"), 5)
        with pytest.raises(RuntimeError, match="does not hold"):
            worker.publish_terminal("nothing", Ending("completed"), 5)
        hub.cancel(task)


def test_a_drain_ends_open_pipes(hub: LedgerInProcess) -> None:
    """[D-13] A pipe is given back when the other runs are done: `canceled`, `drained`; it is not waited for."""
    with WorkerAtHub(hub, Opening()) as at:
        worker = at.ready()
        task = opened(hub, worker)
        begun = time.monotonic()
        worker.stop(30)

        assert time.monotonic() - begun < 15
        assert outcome(hub.row(task)) == ("canceled", None, None, "drained", None)


def test_a_drain_ends_a_pipe_whose_handler_works(hub: LedgerInProcess) -> None:
    """[D-13] A handler of a pipe has the drain's time; then it is asked to stop, and the pipe is `drained`."""
    begun = threading.Event()

    def handler(_task: Any, ctx: Any) -> str:
        begun.set()
        ctx.wait(30)
        return "partial"

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit(**PIPE)
        assert begun.wait(10)
        at.worker.stop(0.1)

        assert outcome(hub.row(task)) == ("canceled", None, None, "drained", None)


def test_a_pipe_whose_lease_is_lost_stops_here(hub: LedgerInProcess) -> None:
    """[D-13] A newer process under the name ends it: the task has failed, and what it has here is told to stop."""
    handler = Opening()
    with WorkerAtHub(hub, handler) as at:
        task = opened(hub, at.ready())
        with WorkerAtHub(hub, Opening()) as newer:
            newer.ready()

            assert outcome(hub.ended(task)) == ("failed", "lease_lost", "lease_lost", None, None)
            wait_until(lambda: handler.contexts[0].is_cancelled, what="the event")


def test_a_cancel_that_crosses_the_return_is_not_lost(hub: LedgerInProcess) -> None:
    """However close they come together, the cancel ends the pipe."""
    with WorkerAtHub(hub, Opening(), slots=4) as at:
        at.ready()
        tasks = [hub.submit(**PIPE) for _ in range(20)]
        for task in tasks:
            hub.cancel(task)

        assert {hub.ended(task, NUMBERS.cancel_grace + 10).state for task in tasks} == {"canceled"}
        assert {hub.row(task).reason for task in tasks} == {None}
