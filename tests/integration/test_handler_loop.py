"""The loop for coroutines: one that blocks it harms no other for long."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import TaskCancelledError
from blocks_worker.protocol.control import StartTask
from blocks_worker.worker.loop import HUNG, CoroutineLoop
from blocks_worker.worker.outbox import Outbox
from blocks_worker.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from concurrent.futures import Future


#: Seconds in which a loop that is not blocked begins a coroutine, and those that one which is blocked gets.
ALWAYS, PATIENCE = 60.0, 0.4


class Bench:
    """A loop, threads that wait for coroutines on it, and a block for its thread that is let go at the end."""

    def __init__(self) -> None:
        self.loop = CoroutineLoop(patience=ALWAYS)
        self.threads = ThreadPoolExecutor(HUNG + 4)
        self.blocked = threading.Event()
        self.let_go = threading.Event()

    def start(self, coroutine: Coroutine[Any, Any, object]) -> tuple[Run, Future[object]]:
        """Run a coroutine for a run of its own."""
        run = Run(StartTask(task_id="t", epoch=1, digest="d"), Outbox(("t", 1)), 0.0)
        return run, self.threads.submit(self.loop.run, coroutine, run)

    def block(self) -> tuple[Run, Future[object]]:
        """Run a coroutine that blocks its loop, and wait until it does."""
        self.blocked.clear()
        started = self.start(self._block())
        assert self.blocked.wait(30)
        self.loop._patience = PATIENCE
        return started

    async def _block(self) -> str:
        self.blocked.set()
        self.let_go.wait(60)
        return "late"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a loop with its threads."""
    bench = Bench()
    yield bench
    bench.let_go.set()
    assert bench.loop.close(Deadline(30))
    bench.threads.shutdown()


async def quick() -> str:
    """Return at once."""
    return "quick"


async def sleeper(begun: threading.Event) -> str:
    """Say that it was begun, and wait for long."""
    begun.set()
    await asyncio.sleep(3600)
    return "never"


def test_a_coroutine_that_was_not_begun_gets_another_loop(bench: Bench) -> None:
    """While one blocks its loop the next ones run, and the one that blocked still ends with its result."""
    _, blocker = bench.block()

    assert bench.start(quick())[1].result(30) == "quick"
    assert bench.start(quick())[1].result(30) == "quick"
    bench.let_go.set()
    assert blocker.result(30) == "late"


def test_a_run_that_is_given_up_gives_the_others_on_its_blocked_loop_back(bench: Bench) -> None:
    """Nobody waits for ever: the one given up ends, those that waited beside it go elsewhere."""
    begun = threading.Event()
    beside, waiting = bench.start(sleeper(begun))
    assert begun.wait(30)
    run, blocker = bench.block()
    run.cancel("enough")

    assert bench.loop.abandon(run)

    with pytest.raises(TaskCancelledError):
        blocker.result(30)
    with pytest.raises(TaskCancelledError):
        waiting.result(30)
    assert (run.gives_back, beside.gives_back) == (False, True)
    assert bench.start(quick())[1].result(30) == "quick"


def test_a_coroutine_that_only_ignores_its_cancel_spares_the_others(bench: Bench) -> None:
    """Given up, it is waited for no longer; the loop hears well and is kept."""
    begun, beside = threading.Event(), threading.Event()

    async def deaf() -> None:
        begun.set()
        while not bench.let_go.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                beside.set()

    other, waiting = bench.start(sleeper(threading.Event()))
    run, ignoring = bench.start(deaf())
    assert begun.wait(30)
    run.cancel(None)
    assert beside.wait(30)

    assert bench.loop.abandon(run)

    with pytest.raises(TaskCancelledError):
        ignoring.result(30)
    assert not other.gives_back
    assert not waiting.done()
    other.cancel(None)
    with pytest.raises(TaskCancelledError):
        waiting.result(30)


@pytest.mark.parametrize("way", ["stop", "exit in a task"])
def test_a_handler_that_stops_the_loop_stops_nobody(bench: Bench, way: str) -> None:
    """The loop goes on where it was, for the one that stopped it too."""

    async def stopper() -> str:
        if way == "stop":
            asyncio.get_running_loop().stop()
        else:
            asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.sleep(0.02)
        return "went on"

    assert bench.start(stopper())[1].result(30) == "went on"
    assert bench.start(quick())[1].result(30) == "quick"


def test_loops_that_are_blocked_are_not_replaced_for_ever(bench: Bench) -> None:
    """With so many blocked the next coroutine waits, until one of them is free again."""
    for _ in range(HUNG + 1):
        bench.block()
    _, waiting = bench.start(quick())

    wait_until(lambda: sum(thread.name == "handler-loop" for thread in threading.enumerate()) == HUNG + 1)
    bench.let_go.set()
    assert waiting.result(30) == "quick"
    wait_until(lambda: sum(thread.name == "handler-loop" for thread in threading.enumerate()) == 1)
