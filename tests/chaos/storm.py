"""Play a plan's faults on the stage: what is over after a while is undone, who died is started again."""

from __future__ import annotations

import heapq
import itertools
import signal
import threading
import time
from typing import TYPE_CHECKING

from chaos.notes import read
from chaos.plan import schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.plan import Fault
    from chaos.stage import Stage, Worker
    from support_wire import Wire

#: Seconds between two looks at the processes.
LOOK = 0.05
REVOKED = 77
#: Seconds between two looks for a worker that is at a task.
AIM = 0.1
#: Of them so many are wanted: some end their task in the moment of the kill.
HITS = 3


class Storm:
    """Play the schedule on one thread; `blow` returns when all is healed and every consumer is done."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._pause = threading.Event()
        self._order = itertools.count()
        self._begun = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._is_hub_up = True
        self._is_disk_full = False
        #: How many workers were killed that seemed to be at a task.
        self._hits = 0
        self._ending: dict[int, float] = {}

    def blow(self) -> bool:
        """Play everything; tell whether the consumers were done in time."""
        plan = self._stage.plan
        self._begun = time.monotonic()
        for fault in schedule(plan):
            self._at(fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
        end = self._begun + plan.seconds
        while not self._stage.are_consumers_done():
            # On a machine that is busy with other things workers may need all that time to start.
            waits = plan.aims and self._hits < HITS and time.monotonic() < end + plan.settle / 2
            if time.monotonic() > end and not waits:
                break
            self._turn()
        self._heal()
        end = time.monotonic() + plan.settle
        while not self._stage.are_consumers_done():
            if time.monotonic() > end:
                return False
            self._turn()
        return True

    # ------------------------------------------------------------------ time
    def _at(self, seconds: float, act: Callable[[], object]) -> None:
        """Act so many seconds after the beginning."""
        heapq.heappush(self._due, (self._begun + seconds, next(self._order), act))

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def _turn(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()
        for worker in self._stage.workers:
            self._look_after(worker)
        self._pause.wait(LOOK)

    def _heal(self) -> None:
        """Break nothing more, and mend what is broken."""
        stage = self._stage
        stage.notes.add("healed")
        self._due.clear()
        for wire in stage.wires:
            wire.heal()
        self._empty_disk()
        for name in ("hub", *(f"worker-{worker.number}" for worker in stage.workers)):
            if not stage.clocks.missing:
                stage.clocks.move(name, 0.0)
        for worker in stage.workers:
            if worker.state == "stopped":
                self._wake(worker, worker.lives)
        if not self._is_hub_up:
            self._hub_again()
        stage.wait_for_hub()
        for number, consumer in enumerate(stage.consumers):
            if consumer.process.poll() == -signal.SIGKILL:
                stage.start_consumer(number)

    # ------------------------------------------------------------------ faults
    def _strike(self, fault: Fault) -> None:
        getattr(self, f"_{fault.what.replace(' ', '_')}")(fault)

    def _kill_worker(self, fault: Fault) -> None:
        worker: Worker | None = self._stage.workers[fault.target]
        if self._stage.plan.aims:
            worker = self._busy_worker()
            self._hits += worker is not None
        if worker is None:
            self._after(AIM, lambda: self._kill_worker(fault))
        elif worker.state in {"up", "stopped"}:
            self._stage.send(worker, signal.SIGKILL)
            self._stage.start_worker(worker)

    def _busy_worker(self) -> Worker | None:
        """Return a worker that is at a task."""
        notes = read(self._stage.world.runs)
        ends = {(note["task"], note["pid"]) for note in notes if note["word"] == "end"}
        busy = {note["pid"] for note in notes if note["word"] == "start" and (note["task"], note["pid"]) not in ends}
        up = [worker for worker in self._stage.workers if worker.state == "up" and worker.daemon is not None]
        return next((worker for worker in up if worker.daemon and worker.daemon.process.pid in busy), None)

    def _stop_worker(self, fault: Fault) -> None:
        worker = self._stage.workers[fault.target]
        if worker.state == "up":
            self._stage.send(worker, signal.SIGSTOP)
            worker.state = "stopped"
            self._after(fault.amount, lambda: self._wake(worker, worker.lives))

    def _wake(self, worker: Worker, life: int) -> None:
        if worker.state == "stopped" and worker.lives == life:
            self._stage.send(worker, signal.SIGCONT)
            worker.state = "up"

    def _end_worker(self, fault: Fault) -> None:
        worker = self._stage.workers[fault.target]
        if worker.state == "up":
            worker.state = "ending"
            self._stage.send(worker, signal.SIGTERM)
            self._ending[worker.number] = time.monotonic()

    def _kill_hub(self, fault: Fault) -> None:
        if self._is_hub_up:
            self._stage.kill_hub()
            self._is_hub_up = False
            self._after(fault.amount, self._hub_again)

    def _hub_again(self) -> None:
        if not self._is_hub_up:
            self._empty_disk()
            self._stage.start_hub()
            self._is_hub_up = True

    def _kill_consumer(self, fault: Fault) -> None:
        if self._stage.kill_consumer(fault.target):
            self._after(fault.amount, lambda: self._stage.start_consumer(fault.target))

    def _revoke(self, fault: Fault) -> None:
        """Take a worker's key away; when it has ended for that it gets another one."""
        worker = self._stage.workers[fault.target]
        if worker.state == "up" and self._is_hub_up:
            assert worker.daemon is not None
            # Noted before: the hub gives its tasks to others at once, the worker hears of it by its next heartbeat.
            self._stage.notes.add("revoked", worker=worker.number, process=worker.daemon.process.pid)
            worker.revoking = self._stage.world.start("blocks", "keys", "revoke", worker.key["id"])
            worker.state = "revoked"

    def _move_clock(self, fault: Fault) -> None:
        name = "hub" if fault.target == len(self._stage.workers) else f"worker-{fault.target}"
        if not self._stage.clocks.missing:
            self._stage.clocks.move(name, fault.amount)
            self._stage.notes.add("clock moved", whose=name, by=fault.amount)

    def _fill_disk(self, fault: Fault) -> None:
        if self._stage.has_disk and self._is_hub_up:
            self._stage.fill_disk()
            self._is_disk_full = True
            self._after(fault.amount, self._empty_disk)

    def _empty_disk(self) -> None:
        if self._is_disk_full:
            self._stage.empty_disk()
            self._is_disk_full = False

    def _cut_wire(self, fault: Fault) -> None:
        self._of_wire(fault).cut()

    def _reset_wire(self, fault: Fault) -> None:
        self._of_wire(fault).reset()

    def _delay_wire(self, fault: Fault) -> None:
        self._of_wire(fault).delay(fault.amount / 4)

    def _swallow_wire(self, fault: Fault) -> None:
        self._of_wire(fault).black_hole()

    def _of_wire(self, fault: Fault) -> Wire:
        wire = self._stage.wires[fault.target]
        self._stage.notes.add("wire", fault=fault.what, wire=fault.target, seconds=fault.amount)
        self._after(fault.amount, wire.heal)
        return wire

    # ------------------------------------------------------------------ who ended
    def _look_after(self, worker: Worker) -> None:
        """Start a worker again that has ended, with another key if its own was taken away."""
        assert worker.daemon is not None
        code = worker.daemon.process.poll()
        if code is None:
            if worker.state == "revoked" and worker.revoking is not None and worker.revoking.process.poll():
                worker.state = "up"  # no hub heard the command
            return
        stage = self._stage
        if code == REVOKED and worker.revoking is not None:
            worker.key, worker.revoking = stage.keys.pop(), None
        elif worker.state == "ending":
            took = time.monotonic() - self._ending.pop(worker.number)
            was_ready = "[agent] ready" in worker.daemon.text()
            stage.notes.add("drained", worker=worker.number, code=code, seconds=round(took, 3), was_ready=was_ready)
        else:
            text = worker.daemon.text()[-600:]
            stage.notes.add("died", worker=worker.number, code=code, state=worker.state, text=text)
        stage.start_worker(worker)
