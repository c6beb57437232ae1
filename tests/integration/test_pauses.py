"""Pause and resume against the real ledger: a handler waits without a slot, and goes on in its turn."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.context.task import TaskContext
from blocks_worker.errors import TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Nobody is given up, and no lease is lost, because the machine stood still.
PATIENT = msgspec.structs.replace(NUMBERS, lease_ttl=60.0, cancel_grace=30.0)


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess(numbers=PATIENT) as ledger:
        yield ledger


class Obeying:
    """A handler that waits while it is paused, until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waited: list[object] = []

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it; another text than the usual returns at once."""
        if task.text() != "hi":
            return "at once"
        while not self.go.wait(0.02) and not ctx.is_cancelled:
            try:
                waited = ctx.wait_while_paused()
            except TaskCancelledError as error:
                self.waited.append(error)
                raise
            if waited:
                self.waited.append(waited)
        return "done"


class Beside(Obeying):
    """The same, but for tasks that say "block": they hold a slot until `other` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.other = threading.Event()

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        if task.text() == "block":
            self.other.wait(30)
            return "free"
        return super().__call__(task, ctx)


def statuses(hub: LedgerInProcess, task: str) -> list[str]:
    """Return what was said of the pause."""
    return [event["status"] for event in hub.events(task) if event["type"] == "system"]


def slots() -> list[str]:
    """Return the names of the threads that carry out tasks."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("executor-")]


def paused(hub: LedgerInProcess, task: str) -> None:
    """Pause a task and wait until it is."""
    hub.pause(task)
    wait_until(lambda: hub.row(task).state == "paused", what=f"the pause of {task}")


def paused_behind_another(hub: LedgerInProcess) -> tuple[str, str]:
    """Return a task that is paused, and one that took its slot, the only one, and holds it."""
    task = hub.submit()
    hub.running(task)
    paused(hub, task)
    blocking = hub.submit("block")
    hub.running(blocking)
    return task, blocking


def test_a_paused_handler_gives_its_slot_to_others(hub: LedgerInProcess) -> None:
    """[R-57] It waits without a slot, another task runs on the only one, and it goes on after the resume."""
    handler = Obeying()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        hub.running(task)
        paused(hub, task)
        assert hub.ended(hub.submit("other")).state == "completed"

        hub.pause(task, on=False)
        wait_until(lambda: hub.row(task).state == "running", what="the resume")
        handler.go.set()
        assert hub.ended(task).state == "completed"
        assert statuses(hub, task) == ["paused", "resumed"]
        assert handler.waited == [True]


def test_a_pause_reaches_the_run_when_the_network_is_deaf(hub: LedgerInProcess) -> None:
    """[R-57] Heartbeats tell of pause and resume when no message comes."""
    with WorkerAtHub(hub, handler := Obeying()) as at:
        at.ready()
        task = hub.submit()
        hub.running(task)
        hub.bus.deaf = True
        paused(hub, task)
        hub.pause(task, on=False)

        wait_until(lambda: handler.waited == [True], what="the resume")
        handler.go.set()
        assert hub.ended(task).state == "completed"


def test_a_handler_that_does_not_wait_is_not_paused(hub: LedgerInProcess) -> None:
    """[R-57] It may look at `is_paused`; its task goes on and is shown as running. [J15]"""
    seen = threading.Event()

    def handler(_task: Any, ctx: Any) -> str:
        while not ctx.is_paused and not ctx.is_cancelled:
            ctx.wait(0.02)
        seen.set()
        return "done"

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        hub.running(task)
        hub.pause(task)

        assert seen.wait(10)
        assert hub.ended(task).state == "completed"
        assert statuses(hub, task) == []


@pytest.mark.parametrize("terminated", [False, True])
def test_a_cancel_wakes_a_paused_handler(hub: LedgerInProcess, *, terminated: bool) -> None:
    """The wait raises `TaskCancelledError`, and the task is canceled, though no slot was free to go on with."""
    handler = Beside()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task, blocking = paused_behind_another(hub)
        hub.cancel(task, terminated=terminated)

        row = hub.ended(task)
        assert (row.state, row.reason) == ("canceled", "terminated" if terminated else None)
        wait_until(lambda: bool(handler.waited), what="the handler")
        assert [type(error) for error in handler.waited] == [TaskCancelledError]
        handler.other.set()
        assert hub.ended(blocking).state == "completed"
        assert hub.ended(hub.submit("another")).state == "completed"


def test_who_waited_goes_on_before_new_offers(hub: LedgerInProcess) -> None:
    """After the resume the next free slot is the waiting run's; what came later waits for another."""
    handler, order = Beside(), list[str]()

    def in_order(task: Any, ctx: Any) -> str:
        if task.text() == "late":
            order.append("late")
            return "late"
        result = handler(task, ctx)
        if task.text() != "block":
            order.append("resumed")
        return result

    with WorkerAtHub(hub, in_order) as at:
        at.ready()
        task, _ = paused_behind_another(hub)
        hub.pause(task, on=False)
        handler.go.set()
        late = [hub.submit("late") for _ in range(3)]
        beats = len(at.login.beats)
        wait_until(lambda: len(at.login.beats) > beats + 2, what="the resume to be known for sure")
        handler.other.set()

        assert hub.ended(task).state == "completed"
        assert {hub.ended(each).state for each in late} == {"completed"}
        assert order[0] == "resumed"


def test_paused_again_before_a_slot_came_free(hub: LedgerInProcess) -> None:
    """The newest word counts: a run that is paused again while it waits for its slot goes on waiting."""
    handler = Beside()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task, blocking = paused_behind_another(hub)
        hub.pause(task, on=False)
        hub.pause(task)
        handler.other.set()
        hub.ended(blocking)
        assert hub.ended(hub.submit("other")).state == "completed"
        wait_until(lambda: hub.row(task).state == "paused", what="the second pause")

        hub.pause(task, on=False)
        handler.go.set()
        assert hub.ended(task).state == "completed"


def test_a_pipe_is_paused_too(hub: LedgerInProcess) -> None:
    """[R-57] Pause and resume are for both kinds."""
    handler = Obeying()
    with WorkerAtHub(hub, handler) as at:
        worker = at.ready()
        task = hub.submit(task_kind="pipe", duration=5)
        hub.running(task)
        paused(hub, task)
        hub.pause(task, on=False)
        handler.go.set()
        wait_until(lambda: statuses(hub, task) == ["paused", "resumed"], what="the resume")
        wait_until(lambda: worker.state == "ready", what="the return of the handler")
        hub.cancel(task)

        assert hub.ended(task).state == "canceled"


def test_limits_go_on_while_a_handler_waits(hub: LedgerInProcess) -> None:
    """[R-26] The longest run is over while it is paused: the task fails at once, and the handler is woken."""
    handler = Obeying()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit(max_runtime=5.0)
        hub.running(task)
        paused(hub, task)

        row = hub.ended(task)
        assert (row.state, row.error_code, row.reason) == ("failed", "timeout", "max_runtime")
        wait_until(lambda: bool(handler.waited), what="the handler")
        assert [type(error) for error in handler.waited] == [TaskCancelledError]


def test_a_drain_gives_a_paused_run_back(hub: LedgerInProcess) -> None:
    """It is woken when the time of the drain is over, and waits in the queue until its resume. [J14]"""
    handler = Obeying()
    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        hub.running(task)
        paused(hub, task)
        at.worker.stop(0.1)

        row = hub.row(task)
        assert (row.state, row.attempt, row.pause) == ("paused", 0, True)
        wait_until(lambda: bool(handler.waited), what="the handler")
        assert [type(error) for error in handler.waited] == [TaskCancelledError]
    with WorkerAtHub(hub, handler, name="next") as at:
        at.ready()
        hub.sweep()
        assert hub.row(task).state == "paused"
        handler.go.set()
        hub.pause(task, on=False)
        assert hub.ended(task).state == "completed"


def test_threads_come_and_go_with_pauses(hub: LedgerInProcess) -> None:
    """Whoever waits has another in its place, and goes when it is done: no thread is left, none is missing."""
    handler = Obeying()
    with WorkerAtHub(hub, handler, slots=2) as at:
        at.ready()
        for _ in range(3):
            task = hub.submit()
            hub.running(task)
            paused(hub, task)
            hub.pause(task, on=False)
            wait_until(lambda: handler.waited == [True], what="the resume")
            handler.go.set()
            hub.ended(task)
            handler.go.clear()
            handler.waited.clear()

        wait_until(lambda: len(slots()) == 2, what="as many threads as slots")
        assert hub.ended(hub.submit("other")).state == "completed"


def test_a_context_made_by_hand_is_never_paused() -> None:
    """A test of a handler needs no worker: nothing is paused, and the wait returns at once."""
    ctx = TaskContext(task_id="x")

    assert not ctx.is_paused
    assert ctx.wait_while_paused() is False
