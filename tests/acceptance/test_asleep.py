"""A whole machine that sleeps: hub and worker stand still together for longer than any lease, and wake up."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from acceptance.storm import start_hub
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker import TaskClient

    Open = Callable[[], TaskClient]

#: Leases that end within a test.
SHORT = {"heartbeat_interval": 0.4, "lease_ttl": 6.0, "lease_margin": 0.5, "lease_grace": 1.0}
ASLEEP = 10.0


def test_a_machine_that_sleeps_runs_nothing_twice(world: World, client: Open) -> None:
    """What ran goes on, what waited is offered, nobody is lost for a silence in which none could speak. [A19]"""
    hub = start_hub(world, numbers=SHORT)
    worker = world.worker("handlers:hold", "--no-local", "--concurrency", "2", "--instance-id", "one")
    here = client()
    running = [here.send_message("hold", str(number)) for number in range(2)]
    waiting = here.send_message("hold", "2")
    wait_until(lambda: len(world.notes("start")) == 2, 30, "both runs")
    for daemon in (worker, hub):
        os.kill(daemon.process.pid, signal.SIGSTOP)
    threading.Event().wait(ASLEEP)
    # The hub first: it has time to look before anybody speaks.
    os.kill(hub.process.pid, signal.SIGCONT)
    threading.Event().wait(0.8)
    os.kill(worker.process.pid, signal.SIGCONT)
    wait_until(lambda: "heartbeat_starved" in worker.text(), 30, "the worker knows that it slept")
    world.open_gate()

    assert [session.text(60) for session in [*running, waiting]] == ["done: 0", "done: 1", "done: 2"]
    assert len(world.notes("start")) == 3, "nothing ran twice"
    assert "hub_stood_still" in hub.text()
    assert '"instance_lost"' not in hub.text()
