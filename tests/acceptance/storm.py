"""A storm over real processes: workers and their hub are killed by a seeded schedule while tasks are submitted.

It notes what it did; `Notes` reads what the handlers noted. Judging is left to the tests.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import wait_until

from blocks_worker.errors import BlocksError

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import Daemon, World

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

HANDLER = '''
import hashlib
import json
import os
import time


def note(word, task, ctx):
    """Append one line in one write: nobody who is killed leaves half of one."""
    line = f"{word} {task.task_id} {ctx.attempt} {os.getpid()} {time.time():.6f}\\n"
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def handler(task, ctx):
    note("start", task, ctx)
    wish = json.loads(task.text())
    ctx.report_status(f"run {ctx.attempt}")
    time.sleep(wish["seconds"])
    note("end", task, ctx)
    return hashlib.sha256(task.text().encode()).digest() * wish["copies"]
'''


@dataclass(frozen=True)
class Plan:
    """Say how much is done and how much is broken; the seed decides the rest."""

    seed: int
    tasks: int
    #: After so many kills that cost a run the workers are let be: it bounds what may be done twice.
    most: int
    slots: int = 2
    workers: int = 2
    submitters: int = 4
    #: Seconds between two killed workers, on average.
    every: float = 1.0
    #: After about which share of the submits the hub is killed.
    hub_kills: tuple[float, ...] = ()
    #: There is no hub apart: one of the workers runs it, and another when that one was killed.
    local: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a handler as it noted it itself; `end` is None when it never came to it."""

    task: str
    attempt: int
    pid: int
    start: float
    end: float | None


@dataclass(frozen=True)
class Kill:
    """A worker that was killed, and the runs that it was at."""

    pid: int
    at: float
    holding: tuple[Run, ...]


@dataclass
class Sent:
    """One task: what it must bring, its session, and what the session told its callbacks."""

    text: str
    session: TaskSession
    events: list[TaskEvent] = field(default_factory=list)
    terminals: list[TaskEvent] = field(default_factory=list)


def runs_of(path: Path) -> list[Run]:
    """Return every run that was noted, in the order of the starts."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    ends = {(task, attempt, pid): float(at) for word, task, attempt, pid, at in lines if word == "end"}
    return [
        Run(task, int(attempt), int(pid), float(at), ends.get((task, attempt, pid)))
        for word, task, attempt, pid, at in lines
        if word == "start"
    ]


def expected(text: str) -> bytes:
    """Return what a task with this text must bring."""
    copies: int = json.loads(text)["copies"]
    return hashlib.sha256(text.encode()).digest() * copies


def wish(dice: random.Random, task: int) -> str:
    """Return the text of a task that takes 0.1 to 0.4 seconds; every tenth result is too large to travel inline."""
    return json.dumps({"task": task, "seconds": round(dice.uniform(0.1, 0.4), 3), "copies": 3 if task % 10 else 2000})


def write_handler(folder: Path) -> None:
    """Write the module of the handler "chaotic" to where daemons look for it."""
    (folder / "chaotic.py").write_text(HANDLER)


def start_hub(world: World, **settings: Any) -> Daemon:
    """Start a hub process with settings that no flag has, on the world's folder and port; wait until it listens."""
    where = {"state_dir": world.environment["BLOCKS_STATE_DIR"], "port": world.port}
    hub = world.start("python", str(Path(__file__).with_name("chosen_hub.py")), json.dumps({**where, **settings}))
    hub.wait_for("[hub] listening")
    return hub


class Storm:
    """Own the daemons, the submitting threads and the schedule of one storm."""

    def __init__(self, world: World, open_client: Callable[[], TaskClient], plan: Plan) -> None:
        self.plan = plan
        self.sent: list[Sent] = []
        self.kills: list[Kill] = []
        #: When the hub was killed, and when it was started again.
        self.hub_kills: list[tuple[float, float]] = []
        #: How many submits were under way when the hub was killed.
        self.in_flight: list[int] = []
        self.failures: list[BlocksError] = []
        self._world = world
        self._open_client = open_client
        self._dice = random.Random(plan.seed)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._under_way = 0
        self._workers: dict[str, Daemon] = {}
        write_handler(world.folder)

    @property
    def runs(self) -> list[Run]:
        """Every run so far."""
        return runs_of(self._world.runs)

    def blow(self, timeout: float) -> None:
        """Start everything, submit and kill until every session has its end; then let the workers be."""
        if not self.plan.local:
            self._start_hub()
        for number in range(self.plan.workers):
            self._start_worker(f"worker-{number}").wait_for("[agent] ready")
        self.client = self._open_client()
        threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(self.plan.submitters)]
        for thread in threads:
            thread.start()
        try:
            self._rage(time.monotonic() + timeout)
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def settle(self) -> None:
        """Wait until each session has told its callbacks of its end, and a while for what should not come."""
        wait_until(lambda: all(one.session.is_closed for one in self.sent), timeout=30, what="the last callbacks")
        threading.Event().wait(1.0)

    # ------------------------------------------------------------------ processes
    def _start_hub(self) -> None:
        # Each task may lose as many leases as there are kills.
        self._hub = start_hub(self._world, numbers={"max_lost": 1000})

    def _start_worker(self, name: str) -> Daemon:
        """Start a worker, in half of the cases under a stable name, so that it supersedes the one before it."""
        flags = ["--concurrency", str(self.plan.slots)]
        flags += ["--instance-id", name] if self._dice.random() < 0.5 else []
        flags += [] if self.plan.local else ["--no-local"]
        self._workers[name] = self._world.start("blocks-run", "--handler", "chaotic:handler", *flags)
        return self._workers[name]

    # ------------------------------------------------------------------ what is asked for
    def _submit(self, number: int) -> None:
        """Submit this thread's share."""
        dice = random.Random(f"{self.plan.seed}.{number}")
        for task in range(number, self.plan.tasks, self.plan.submitters):
            text = wish(dice, task)
            with self._lock:
                self._under_way += 1
            try:
                self._watch(text, self.client.send_message(agent_name="chaotic", request_parts=text, timeout=60.0))
            except BlocksError as error:
                self.failures.append(error)
            with self._lock:
                self._under_way -= 1
            if self._over.wait(dice.uniform(0.1, 0.3)):
                return

    def _watch(self, text: str, session: TaskSession) -> None:
        sent = Sent(text, session)
        session.on_event(sent.events.append)
        session.on_terminal(sent.terminals.append)
        self.sent.append(sent)

    # ------------------------------------------------------------------ what goes wrong
    def _rage(self, end: float) -> None:
        hub_kills = [share + self._dice.uniform(-0.1, 0.1) for share in self.plan.hub_kills]
        while not self._is_done():
            assert time.monotonic() < end, f"not done in time: {self._undone()}"
            self._over.wait(self.plan.every * self._dice.uniform(0.6, 1.4))
            if hub_kills and len(self.sent) >= hub_kills[0] * self.plan.tasks:
                hub_kills.pop(0)
                self._kill_hub()
            if sum(bool(kill.holding) for kill in self.kills) < self.plan.most:
                self._kill_worker(self._dice.choice(sorted(self._workers)))

    def _is_done(self) -> bool:
        sent = list(self.sent)
        return len(sent) + len(self.failures) == self.plan.tasks and all(one.terminals for one in sent)

    def _undone(self) -> dict[str, Any]:
        return {one.session.task_id: one.session.state for one in list(self.sent) if not one.terminals}

    def _kill_worker(self, name: str) -> None:
        worker = self._workers[name]
        worker.kill()
        at, pid = time.time(), worker.process.pid
        self._start_worker(name)
        holding = tuple(run for run in self.runs if run.pid == pid and run.end is None)
        self.kills.append(Kill(pid, at, holding))

    def _kill_hub(self) -> None:
        """Kill the hub while somebody submits; it is away for up to half a second before it starts again."""
        wait_until(lambda: self._under_way, timeout=30, what="a submit under way")
        self.in_flight.append(self._under_way)
        self._hub.kill()
        killed = time.time()
        self._over.wait(self._dice.uniform(0.0, 0.5))
        again = time.time()
        self._start_hub()
        self.hub_kills.append((killed, again))


@dataclass(frozen=True)
class Figures:
    """What a storm came to, in numbers; times in seconds."""

    seed: int
    kills: int
    holder_kills: int
    hub_kills: int
    runs_per_task: float
    #: From the kill of a worker to the next start of each task that it was at.
    recoveries: list[float]
    #: From the kill of the hub to the first start of a task after it.
    hub_recoveries: list[float]
    seconds: float

    @classmethod
    def of(cls, storm: Storm, seconds: float) -> Figures:
        """Work them out."""
        runs = storm.runs
        starts = defaultdict(list)
        for run in runs:
            starts[run.task].append(run.start)
        recoveries = [
            min((start for start in starts[lost.task] if start > kill.at), default=float("inf")) - kill.at
            for kill in storm.kills
            for lost in kill.holding
        ]
        hub_recoveries = [
            min((run.start for run in runs if run.start > again), default=float("inf")) - killed
            for killed, again in storm.hub_kills
        ]
        return cls(
            seed=storm.plan.seed,
            kills=len(storm.kills),
            holder_kills=sum(bool(kill.holding) for kill in storm.kills),
            hub_kills=len(storm.hub_kills),
            runs_per_task=len(runs) / storm.plan.tasks,
            recoveries=sorted(recoveries),
            hub_recoveries=sorted(hub_recoveries),
            seconds=seconds,
        )

    def __str__(self) -> str:
        hub = ", ".join(f"{seconds:.2f}" for seconds in self.hub_recoveries)
        return (
            f"chaos seed {self.seed}: {self.seconds:.0f} s, {self.kills} workers killed, {self.holder_kills} of them "
            f"holding a lease, {self.hub_kills} hubs killed; {self.runs_per_task:.3f} runs a task; lost tasks ran "
            f"again after p50 {share(self.recoveries, 0.5):.2f} s, p99 {share(self.recoveries, 0.99):.2f} s; "
            f"work went on after a hub's death in {hub or '-'} s"
        )


def share(ordered: list[float], part: float) -> float:
    """Return the value that this part of the ordered values does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
