"""Processes that are told to end at any moment, restarted while work comes in, or worn out."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Daemon, World

    from blocks_worker import TaskClient

    Open = Callable[[], TaskClient]

#: Seconds in which a start that is told to end has ended; the machine runs other tests beside.
PROMPT = 4.0


def _catches(process_id: int, number: signal.Signals) -> bool:
    """Tell whether the process has a handler of its own for a signal."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _ended_at(world: World, moment: float) -> Daemon:
    """Start a worker, tell it to end so long after its handlers are there, and wait for the end."""
    worker = world.start("blocks-run", "--handler", "echo")
    wait_until(lambda: _catches(worker.process.pid, signal.SIGTERM), 20, what="it minds signals")
    threading.Event().wait(moment)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PROMPT + 8) == 0, f"after {moment} s: {worker.text()}"
    return worker


def _nobody_is_there(world: World) -> None:
    assert [one["state"] for one in world.agents().get("echo", []) if one["state"] in {"ready", "registering"}] == []


def test_a_start_that_is_told_to_end_ends(world: World) -> None:
    """[D3] SIGTERM at once, while it registers and just when it is ready: exit 0, and nobody is left registered."""
    world.hub()
    for moment in (0.0, 0.25, 0.7):
        _ended_at(world, moment)

    _nobody_is_there(world)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_starts_that_are_told_to_end_end(world: World) -> None:
    """[D3] The same at fifty random moments."""
    world.hub()
    chance = random.Random(7)
    for _ in range(50):
        _ended_at(world, chance.uniform(0.0, 1.5))

    _nobody_is_there(world)


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
