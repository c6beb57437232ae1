"""Whether a worker and a hub get on is told by what they do: one that is held up falls behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.config import HubConfig
from blocks_worker.hub.hub import Hub

if TYPE_CHECKING:
    from pathlib import Path

    from blocks_worker.hub.network.faults import Faults


def test_a_worker_whose_heartbeat_hangs_falls_behind() -> None:
    """A ledger that does not answer holds its heartbeat up; afterwards it gets on as before."""
    gate, held = threading.Event(), threading.Event()
    with LedgerInProcess() as hub, WorkerAtHub(hub, lambda _task: "done") as at:
        at.ready()
        wait_until(lambda: at.worker.pulse.behind < 0.2, what="a heartbeat in time")
        writer = threading.Thread(target=hub.write, args=(lambda _ledger: held.set() or gate.wait(20),))
        writer.start()
        assert held.wait(30)
        try:
            wait_until(lambda: at.worker.pulse.behind > 0.4, 10, "a heartbeat that hangs")
        finally:
            gate.set()
            writer.join(10)
        wait_until(lambda: at.worker.pulse.behind < 0.1, 10, "a heartbeat that gets on")
        assert at.worker.pulse.free == 1

    assert at.worker.pulse.behind == 0


def test_a_hub_whose_loop_is_held_up_falls_behind(tmp_path: Path) -> None:
    """Its sweeps go by the same loop and the same ledger as all else."""
    gate = threading.Event()

    async def hold(_faults: Faults) -> None:
        gate.wait(20)

    hub = Hub(HubConfig(state_dir=tmp_path / "hub", port=0, reserve_bytes=1 << 20))
    hub.start()
    try:
        holder = threading.Thread(target=hub.play, args=(hold, 20.0))
        holder.start()
        wait_until(lambda: hub.behind() > 1.0, 10, "a loop that is held up")
        gate.set()
        holder.join(10)
        wait_until(lambda: hub.behind() < 0.7, 10, "a loop that gets on")
    finally:
        gate.set()
        hub.stop()
    assert hub.behind() == 0
