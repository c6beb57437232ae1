"""The slots: they live through everything, and can be given up."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.worker.executor import SlotExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator


class Quiet(BaseException):
    """Something of a user's own."""


KINDS: list[type[BaseException]] = [
    ValueError,
    KeyError,
    OSError,
    RecursionError,
    MemoryError,
    StopIteration,
    CancelledError,
    TimeoutError,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    Quiet,
]


def test_ten_thousand_exceptions_leave_the_slots_as_they_were() -> None:
    """Twelve kinds of exception end the work, never the thread. [C3, C9]"""
    executor = SlotExecutor(4)
    executor.open()
    futures = [executor.submit(_raise, KINDS[number % len(KINDS)]) for number in range(10_000)]
    raised = {type(future.exception(30)) for future in futures}

    assert raised == set(KINDS)
    assert executor.threads == 4
    executor.shutdown()


def test_start_survives_what_its_work_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The hot path has no future: what comes out of it is logged."""
    executor = SlotExecutor(1)
    executor.open()
    for kind in KINDS:
        executor.start(_raise, kind)

    assert executor.submit(lambda: 7).result(5) == 7
    assert sum(record.getMessage() == "slot_failed" for record in caplog.records) == len(KINDS)
    executor.shutdown()


def test_a_hung_thread_is_replaced_up_to_the_limit() -> None:
    """An abandoned thread costs no slot; beyond the limit a hung one keeps its own. [C1, C2]"""
    executor = SlotExecutor(2, max_abandoned=1)
    executor.open()
    go, items = threading.Event(), ["a", "b"]
    started = [threading.Event(), threading.Event()]
    for item, began in zip(items, started, strict=True):
        executor.start(partial(_hang, began, go), item)
    for began in started:
        assert began.wait(5)

    assert (executor.abandon("a"), executor.abandon("b")) == (True, False)
    assert executor.submit(lambda: 7).result(5) == 7
    assert (executor.abandoned, executor.threads) == (1, 2)
    go.set()
    wait_until(lambda: executor.abandoned == 0)
    assert executor.submit(lambda: 8).result(5) == 8
    executor.shutdown()
    assert executor.threads == 0


@contextmanager
def no_room_for_threads() -> Iterator[None]:
    """Let the process have less address space left than one thread's stack takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    before = threading.stack_size(512 * 1024**2)
    resource.setrlimit(resource.RLIMIT_AS, (used + 128 * 1024**2, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        threading.stack_size(before)


def test_without_room_for_another_thread_a_hung_one_keeps_its_slot() -> None:
    """[D12] Where no thread can be started nothing is given up: the slot comes back with its thread, and serves on."""
    executor = SlotExecutor(1)
    executor.open()
    go, began = threading.Event(), threading.Event()
    executor.start(partial(_hang, began, go), "a")
    assert began.wait(5)
    with no_room_for_threads():
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=int).start()
        executor.step_aside("a")
        assert (executor.abandon("a"), executor.stuck, executor.threads) == (False, 1, 1)
    go.set()

    assert executor.submit(lambda: 7).result(5) == 7
    assert (executor.stuck, executor.abandoned) == (0, 0)
    executor.shutdown()


def test_a_process_without_room_for_its_slots_fails_at_its_start() -> None:
    """[D12] The threads are made at the start, where their lack is an error and loses no task."""
    executor = SlotExecutor(2)
    with no_room_for_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        executor.open()


def test_shutdown_can_cancel_what_waits() -> None:
    """As with any executor: futures that did not begin are cancelled."""
    executor = SlotExecutor(1)
    executor.open()
    go, began = threading.Event(), threading.Event()
    executor.submit(_hang, began, go)
    began.wait(5)
    waiting = executor.submit(lambda: 1)
    executor.shutdown(wait=False, cancel_futures=True)
    go.set()

    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        executor.submit(lambda: 2)
    executor.join(5)


def test_a_process_with_a_hung_slot_ends() -> None:
    """The interpreter waits for no slot at its exit. [D7]"""
    program = (
        "import threading\n"
        "from blocks_worker.worker.executor import SlotExecutor\n"
        "executor = SlotExecutor(1); executor.open()\n"
        "began = threading.Event()\n"
        "executor.start(lambda _: (began.set(), threading.Event().wait()), 'x')\n"
        "began.wait(5)\n"
        "print('leaving')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=100, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, "leaving")


def _hang(began: threading.Event, go: threading.Event, _item: object = None) -> None:
    began.set()
    go.wait(30)


def _raise(kind: type[BaseException]) -> None:
    raise kind


def test_a_thread_that_steps_aside_has_another_in_its_place() -> None:
    """It finishes what it does and goes; given up meanwhile it counts as hung, and nobody else is made for it."""
    executor = SlotExecutor(1, max_abandoned=1)
    executor.open()
    aside, done, gate = threading.Event(), threading.Event(), threading.Event()

    def wait(item: object) -> None:
        executor.step_aside(item)
        executor.step_aside(item)
        aside.set()
        gate.wait(10)
        done.set()

    executor.start(wait, "item")
    assert aside.wait(10)
    assert executor.submit(lambda: 7).result(10) == 7
    assert executor.threads == 1

    assert executor.abandon("item")
    assert (executor.abandoned, executor.threads) == (1, 1)
    gate.set()
    assert done.wait(10)
    wait_until(lambda: executor.abandoned == 0, what="the end of the thread")
    executor.shutdown()
    assert executor.join(5) == []
