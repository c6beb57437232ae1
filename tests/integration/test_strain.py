"""A process that is short of something takes nothing new, says so, and goes on when it has enough again."""

from __future__ import annotations

import ctypes
import logging
import resource
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.observability import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.worker.worker import Worker


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


def state(hub: LedgerInProcess) -> str:
    """Return how the one instance stands with the hub."""
    (row,) = hub.store.read(lambda ledger: ledger.instances())
    return row.state


@contextmanager
def few_descriptors() -> Iterator[Callable[[], None]]:
    """Give what lets the process have so few that more than four fifths of those are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int((usage.open_descriptors() or 0) / 0.85), hard))

    try:
        yield tighten
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_is_short_of_descriptors_is_offered_nothing_until_he_is_not(hub: LedgerInProcess) -> None:
    """[C13] At four fifths of its descriptors an instance is degraded; back below, it does what has waited."""
    with WorkerAtHub(hub, lambda task: task.text()) as at:
        worker = at.ready()
        with few_descriptors() as tighten:
            # What an earlier test left open may be closed meanwhile.
            wait_until(lambda: tighten() or state(hub) == "degraded", what="the hub knows")
            task = hub.submit("waits")
            told = {one.name: one for one in worker.insight.conditions()}
            assert (told["able"].is_met, told["able"].says) == (False, "descriptors")
            assert hub.row(task).state == "pending"
        row = hub.ended(task)

    assert (row.state, row.attempt) == ("completed", 1)


def test_who_is_short_of_memory_is_offered_nothing_until_he_is_not(hub: LedgerInProcess) -> None:
    """[D11] Above the memory that it may have an instance takes nothing; given back, it goes on."""
    limit = (usage.resident_bytes() or 0) + 100 * 1024**2
    with WorkerAtHub(hub, lambda task: task.text(), max_rss=limit) as at:
        at.ready()
        eaten = bytearray(200 * 1024**2)
        eaten[::4096] = b"x" * len(eaten[::4096])
        wait_until(lambda: state(hub) == "degraded", what="the hub knows")
        task = hub.submit("waits")
        assert hub.row(task).state == "pending"
        del eaten

        assert hub.ended(task).state == "completed"


def test_threads_that_handlers_leave_behind_are_counted_and_told(
    hub: LedgerInProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """[C7] What grows with every task is a leak: counted, and a line names the task behind which it was seen."""
    go = threading.Event()

    def leaks(_task: Any) -> str:
        for _ in range(6):
            threading.Thread(target=go.wait, daemon=True).start()
        return "done"

    with caplog.at_level(logging.WARNING), WorkerAtHub(hub, leaks) as at:
        worker = at.ready()
        tasks = [hub.submit() for _ in range(8)]
        for task in tasks:
            assert hub.ended(task).state == "completed"
        counted = worker.counters["threads_leaked"]
        go.set()

    (line,) = [record for record in caplog.records if record.getMessage() == "threads_leaked"]
    assert 40 <= counted <= 48
    assert vars(line)["task"] in tasks


def test_more_hung_threads_than_are_replaced_wear_an_instance_out(hub: LedgerInProcess) -> None:
    """[C1] One hung thread is replaced; with the next one the instance is degraded, until they return."""
    go = threading.Event()
    hung: list[str] = []

    def hangs(task: Any) -> str:
        if task.text() == "hang":
            hung.append(task.task_id)
            go.wait(60)
        return "done"

    with WorkerAtHub(hub, hangs) as at:
        worker = at.ready()
        for abandoned in (1, 1):
            task = hub.submit("hang")
            wait_until(lambda task=task: task in hung, what="it runs")  # type: ignore[misc]
            hub.cancel(task)
            assert hub.ended(task).state == "canceled"
            wait_until(lambda count=abandoned: worker.counters["abandoned_threads"] == count)  # type: ignore[misc]
        wait_until(lambda: worker.pulse.worn_out and state(hub) == "degraded", what="it is worn out")
        waits = hub.submit("waits")
        go.set()

        assert hub.ended(waits).state == "completed"
        wait_until(lambda: not worker.pulse.worn_out and state(hub) == "ready", what="it is well again")


def test_a_held_interpreter_is_told_from_a_slow_handler(caplog: pytest.LogCaptureFixture) -> None:
    """[C8] A handler that waits long makes nothing late; one that lets no thread run is told with its seconds."""

    def handler(task: Any, ctx: Any) -> str:
        if task.text() == "slow":
            ctx.wait(3.7)
        else:
            ctypes.PyDLL(None).usleep(4_300_000)
        return "done"

    numbers = msgspec.structs.replace(NUMBERS, lease_ttl=60.0)
    with (
        caplog.at_level(logging.WARNING),
        LedgerInProcess(numbers=numbers) as hub,
        WorkerAtHub(hub, handler) as at,
    ):
        worker = at.ready()
        # A machine that stands still for a second or two is no held interpreter here.
        worker._engine.tick._late = 3.0
        assert hub.ended(hub.submit("slow")).state == "completed"
        before = worker.counters.get("process_starved", 0)
        assert hub.ended(hub.submit("holds")).state == "completed"
        wait_until(lambda: worker.counters.get("process_starved") == 1, what="it is counted")

    (line,) = [record for record in caplog.records if record.getMessage() == "process_starved"]
    assert (before, vars(line)["seconds"] >= 3.0) == (0, True)


def _freeze_deadlines(worker: Worker, go: threading.Event) -> None:
    worker._engine.deadlines.at(0.0, lambda: go.wait(60))


def _freeze_tick(worker: Worker, go: threading.Event) -> None:
    lock = worker._engine.strain._lock
    threading.Thread(target=lambda: _hold(lock, go)).start()


def _freeze_publisher(worker: Worker, go: threading.Event) -> None:
    # Somebody holds the lock while a status waits for its second.
    lock = worker._engine.publisher._lock
    threading.Thread(target=lambda: _hold(lock, go)).start()


def _hold(lock: threading.Lock, go: threading.Event) -> None:
    with lock:
        go.wait(60)


@pytest.mark.parametrize("freeze", [_freeze_deadlines, _freeze_tick, _freeze_publisher])
def test_each_loop_that_stands_still_is_seen(hub: LedgerInProcess, freeze: Any) -> None:
    """[D9] The pulse, without which no watchdog is fed, falls behind with any of the threads that all wait for."""
    go, spoke = threading.Event(), threading.Event()

    def handler(_task: Any, ctx: Any) -> str:
        ctx.report_status("begun")
        spoke.set()
        # So that there is always one that waits for its second.
        while not go.wait(0.05):
            ctx.report_status("at it")
        return "done"

    with WorkerAtHub(hub, handler) as at:
        worker = at.ready()
        task = hub.submit()
        assert spoke.wait(30)
        wait_until(lambda: worker.pulse.behind < 0.5, what="nothing is behind")
        freeze(worker, go)
        wait_until(lambda: worker.pulse.behind > 0.5, what="it falls behind")
        go.set()
        wait_until(lambda: worker.pulse.behind < 0.3, what="it goes on")

        assert hub.ended(task).state == "completed"
