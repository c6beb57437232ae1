"""Processes that are told to end at any moment, restarted while work comes in, or worn out."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_hub import running_hub
from support_proxy import FaultProxy, cdm_through

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

    from blocks_worker import TaskClient

    Open = Callable[[], TaskClient]

#: Seconds of work that a process does at most once it was told to end: what a machine with nothing else to do waits.
WORK = 6.0
#: Seconds after which it has ended; it may have to wait for its turns, but ends by itself after two.
PROMPT = 30.0


def _handled(process_id: int, number: signal.Signals) -> bool:
    """Tell whether the process has a handler of its own for a signal."""
    status = Path(f"/proc/{process_id}/status").read_text()
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _worked(process_id: int) -> float:
    """Return the seconds of work that a process did so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ended_at(world: World, moment: float, number: signal.Signals = signal.SIGTERM, *, handled: bool = False) -> None:
    """Start a worker, tell it to end so long after that, or after its handlers are there; see that it does."""
    worker = world.start("blocks-run", "--handler", "echo", "--instance-id", f"one-{number}-{int(moment * 10_000)}")
    pid = worker.process.pid
    if handled:
        wait_until(lambda: _handled(pid, signal.SIGTERM), 90, what="it minds signals")
    threading.Event().wait(moment)
    # Before the first line of Python ran nothing is there that could mind a signal, or have to.
    codes = {0} if _handled(pid, signal.SIGTERM) else {0, -number}
    before, told = _worked(pid), time.monotonic()
    # Not by the handle, which would look first whether it lives, and take its end away.
    os.kill(pid, number)
    _, status, used = os.wait4(pid, 0)
    took, worked = time.monotonic() - told, used.ru_utime + used.ru_stime - before
    worker.process.returncode = os.waitstatus_to_exitcode(status)

    assert worker.process.returncode in codes, f"after {moment} s: {worker.text()}"
    assert worked <= WORK, f"after {moment} s: {worked} s of work"
    assert took <= PROMPT, f"after {moment} s: {took} s"


def _all_ended(world: World, moments: list[float], width: int = 5) -> None:
    """Do so at all of these moments from the start of the program on, and with both signals once it minds them."""
    with ThreadPoolExecutor(width) as pool:
        early = [pool.submit(_ended_at, world, moment) for moment in moments[::2]]
        later = [
            pool.submit(_ended_at, world, moment, (signal.SIGTERM, signal.SIGINT)[place % 2], handled=True)
            for place, moment in enumerate(moments[1::2])
        ]
    for done in (*early, *later):
        done.result()
    # Whom a busy machine gave no time for a farewell the hub notices by itself.
    wait_until(lambda: _nobody_is_there(world), 60, what="nobody is left registered")


def _nobody_is_there(world: World) -> bool:
    return not [one for one in world.agents().get("echo", []) if one["state"] in {"ready", "registering"}]


def test_a_start_that_is_told_to_end_ends(world: World) -> None:
    """[D3] SIGTERM and SIGINT at ten random moments of a start: exit 0 in time, and nobody is left registered."""
    world.hub()
    chance = random.Random()

    _all_ended(world, [chance.uniform(0.0, 2.0) for _ in range(10)])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_starts_that_are_told_to_end_end(world: World) -> None:
    """[D3] The same at fifty moments, a few at a time."""
    world.hub()
    chance = random.Random(7)

    _all_ended(world, [chance.uniform(0.0, 1.5) for _ in range(50)], width=2)


def test_a_start_that_hangs_ends_when_it_is_told_to(world: World) -> None:
    """[D3] While a hub does not answer the first word of a worker the process ends all the same, with 0."""
    with running_hub(world.folder / "hub") as hub, FaultProxy(hub.address.url) as proxy:
        proxy.delay(30.0)
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), world.folder, hub=proxy)
        worker = world.start("blocks-run", "--handler", "echo", BLOCKS_CDM_URL=cdm, BLOCKS_API_KEY=hub.key)
        wait_until(lambda: proxy.exchanges, 90, "the first word")
        worker.process.send_signal(signal.SIGTERM)

        assert worker.process.wait(PROMPT) == 0, worker.text()
        assert "SIGTERM received before the start was done" in worker.text()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_rolling_restart_loses_nothing(world: World, client: Open) -> None:
    """[D14] Two workers are replaced in turn, ten times each, while tasks come in: each is done, in one attempt."""
    world.hub()
    workers = {name: world.worker("echo", "--instance-id", name) for name in ("one", "two")}
    consumer, stop = client(), threading.Event()
    sent = []

    def load() -> None:
        while not stop.is_set():
            sent.append(consumer.send_message("echo", f"{len(sent)}"))
            stop.wait(0.01)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for _ in range(10):
            for name in ("one", "two"):
                assert workers[name].terminate() == 0
                workers[name] = world.worker("echo", "--instance-id", name)
    finally:
        stop.set()
        loader.join()
    ended = [session.wait_for_terminal(30) for session in sent]

    assert len(ended) > 500
    assert {event.state for event in ended} == {"completed"}
    assert {consumer.get_task(session.task_id).extra["attempt"] for session in sent[:: len(sent) // 100]} == {1}


@pytest.mark.long
def test_a_worker_whose_handlers_hang_starts_anew(world: World, client: Open) -> None:
    """[C1] More handlers hang than are replaced: the process drains, gives back what waits, and ends with 75."""
    world.hub()
    worker = world.worker("handlers:hang", AGENT_SHUTDOWN_GRACE_SEC="1")
    consumer = client()
    for _ in range(2):
        session = consumer.send_message("hang", "x")
        wait_until(lambda one=session: one.state == "running", 10, what="it runs")  # type: ignore[misc]
        consumer.terminate_task(session.task_id)
        assert session.wait_for_terminal(20).state == "canceled"

    assert worker.process.wait(30) == 75
    assert "handlers hang and keep their slots" in worker.text()
