"""The processes of a chaos run: a hub, workers and consumers, wires between them, and what can be done to each."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from chaos.consumer import Share
from chaos.notes import Notes
from chaos.plan import schedule
from support import LoopThread
from support_clock import Clocks
from support_disk import fill, small_disk
from support_processes import World, new_world
from support_wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.plan import Plan
    from support_processes import Daemon

HERE = Path(__file__).parent
#: Bytes of the small disk under the ledger.
DISK = 512 * 1024 * 1024
#: Free bytes that a full disk has left: less than the hub wants for a submit.
LEFT = 4096


@dataclass
class Worker:
    """One worker and how it stands; the last one has no stable name, so that none comes back under its."""

    number: int
    key: dict[str, Any]
    name: str | None
    lives: int = 0
    #: `up`, `stopped`, `ending`, `revoked` or `down`.
    state: str = "down"
    daemon: Daemon | None = None
    #: The command that takes its key away.
    revoking: Daemon | None = None


@dataclass
class Stage:
    """Own all processes of a run, in a folder of its own."""

    plan: Plan
    world: World
    notes: Notes
    clocks: Clocks
    loop: LoopThread
    has_disk: bool
    wires: list[Wire] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    consumers: list[Daemon] = field(default_factory=list)
    #: For workers whose key was taken away: nothing waits for a command once the storm blows.
    keys: list[dict[str, Any]] = field(default_factory=list)
    hub: Daemon | None = None

    @property
    def state_dir(self) -> Path:
        """Where the hub's ledger is."""
        return self.world.folder / "state"

    # ------------------------------------------------------------------ life
    def open(self, stack: contextlib.ExitStack) -> None:
        """Start everything, and wait until every worker is ready."""
        self.start_hub()
        self.wait_for_hub()
        stack.callback(self.kill_all)
        document = json.loads(urlopen(f"{self.world.environment['BLOCKS_HUB_URL']}/api/v1/cdm", timeout=10).read())  # noqa: S310 - our own hub
        network = int(document["origin"].rpartition(":")[2])
        self.wires = [stack.enter_context(Wire(port, self.loop)) for port in (self.world.port, network) * 2]
        for whose, hub, other in (("worker", *self.wires[:2]), ("consumer", *self.wires[2:])):
            through = document | {
                "hubUrl": hub.url,
                "origin": other.url,
                "api": {**document["api"], "baseUrl": hub.url},
            }
            self._document(whose).write_text(json.dumps(through))
        for number in range(self.plan.workers):
            name = f"worker-{number}" if number < self.plan.workers - 1 else None
            self.workers.append(Worker(number, self.new_key(f"worker-{number}"), name))
            self.start_worker(self.workers[-1])
        for worker in self.workers:
            assert worker.daemon is not None
            worker.daemon.wait_for("[agent] ready")
        self._key = self.new_key("consumer")["key"]
        self.keys = [self.new_key("another") for fault in schedule(self.plan) if fault.what == "revoke"]
        for number in range(self.plan.consumers):
            self.consumers.append(self._consumer(number))

    def kill_all(self) -> None:
        """End whatever still runs."""
        for daemon in self.world.daemons:
            if daemon.process.poll() is None:
                daemon.kill()

    def new_key(self, name: str) -> dict[str, Any]:
        """Make an API key with the command."""
        done = self.world.run("blocks", "keys", "create", name, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    # ------------------------------------------------------------------ the hub
    def start_hub(self) -> None:
        """Start the hub, and do not wait for it."""
        self.hub = self.world.start(
            "blocks-hub",
            *("--port", str(self.world.port), "--transport", self.plan.transport),
            **self.clocks.environment("hub"),
        )
        self.notes.add("hub started", process=self.hub.process.pid)

    def wait_for_hub(self) -> None:
        """Wait until the hub answers."""
        assert self.hub is not None
        self.hub.wait_for("[hub] listening")

    def kill_hub(self) -> None:
        """Kill the hub at once."""
        assert self.hub is not None
        self.notes.add("hub killed", process=self.hub.process.pid)
        self.hub.kill()

    # ------------------------------------------------------------------ workers
    def start_worker(self, worker: Worker) -> None:
        """Start the next life of a worker, and do not wait for it."""
        flags = ["--concurrency", str(self.plan.slots), "--drain-timeout", str(self.plan.drain_timeout), "--no-local"]
        flags += ["--instance-id", worker.name] if worker.name else []
        worker.daemon = self.world.start(
            *("blocks-run", "--handler", "chaotic:handler", *flags),
            **self.clocks.environment(f"worker-{worker.number}"),
            BLOCKS_CDM_URL=str(self._document("worker")),
            BLOCKS_API_KEY=worker.key["key"],
            BLOCKS_STATE_DIR=str(self.world.folder / f"state-{worker.number}"),
            PYTHONPATH=f"{HERE}:{HERE.parent}",
            RUNS=str(self.world.runs),
        )
        worker.lives += 1
        worker.state = "up"
        self.notes.add("worker started", worker=worker.number, process=worker.daemon.process.pid)

    def send(self, worker: Worker, number: signal.Signals) -> None:
        """Send a worker a signal, and note it."""
        assert worker.daemon is not None
        pid = worker.daemon.process.pid
        # Noted before: its task may run again before this process hears of the death.
        self.notes.add("signal", signal=number.name, worker=worker.number, process=pid, returns=worker.name is not None)
        worker.daemon.process.send_signal(number)
        if number is signal.SIGKILL:
            worker.daemon.process.wait()

    # ------------------------------------------------------------------ consumers
    def start_consumer(self, number: int) -> None:
        """Start the next life of a consumer."""
        self.consumers[number] = self._consumer(number)

    def kill_consumer(self, number: int) -> bool:
        """Kill a consumer, unless it is done."""
        one = self.consumers[number].process
        if one.poll() is not None:
            return False
        self.consumers[number].kill()
        self.notes.add("consumer killed", consumer=number, process=one.pid)
        return True

    def are_consumers_done(self) -> bool:
        """Tell whether each has seen the end of all its tasks."""
        for number, consumer in enumerate(self.consumers):
            code = consumer.process.poll()
            if code and code != -signal.SIGKILL:
                self.notes.add("consumer ended", consumer=number, code=code, text=consumer.text()[-500:])
        return all(consumer.process.poll() is not None for consumer in self.consumers)

    def told(self, number: int) -> Path:
        """Return the notes of a consumer."""
        return self.world.folder / f"consumer-{number}"

    def _consumer(self, number: int) -> Daemon:
        plan = self.plan
        notes = str(self.told(number))
        share = Share(notes, plan.seed, number, plan.consumers, plan.tasks, plan.seconds * 0.9)
        daemon = self.world.start(
            *("python", str(HERE / "consumer.py"), json.dumps(asdict(share))),
            BLOCKS_CDM_URL=str(self._document("consumer")),
            BLOCKS_API_KEY=self._key,
            BLOCKS_STATE_DIR=str(self.world.folder / "state-consumer"),
            PYTHONPATH=str(HERE.parent),
        )
        self.notes.add("consumer started", consumer=number, process=daemon.process.pid)
        return daemon

    def _document(self, whose: str) -> Path:
        return self.world.folder / f"cdm-{whose}.json"

    # ------------------------------------------------------------------ the disk
    def fill_disk(self) -> None:
        """Leave next to nothing free on the ledger's disk."""
        fill(self.state_dir, LEFT)
        self.notes.add("disk filled", free=shutil.disk_usage(self.state_dir).free)

    def empty_disk(self) -> None:
        """Give the room back."""
        (self.state_dir / "filler").unlink(missing_ok=True)
        self.notes.add("disk emptied")

    # ------------------------------------------------------------------ the end
    def close(self) -> None:
        """Ask workers and hub to end, and note how they did."""
        for worker in self.workers:
            assert worker.daemon is not None
            self.notes.add("ended", worker=worker.number, code=worker.daemon.terminate(self.plan.drain_timeout + 15))
        assert self.hub is not None
        self.notes.add("hub ended", code=self.hub.terminate(20))


@contextlib.contextmanager
def ledger_disk(folder: Path) -> Iterator[str]:
    """Have a small disk under the ledger, of which a copy stays; give why there is none, or nothing."""
    with small_disk(folder, DISK) as missing:
        try:
            yield missing
        finally:
            if not missing:
                kept = folder.with_name(f"{folder.name}-kept")
                shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("hub-reserve", "filler"))


@contextlib.contextmanager
def staged(plan: Plan, folder: Path) -> Iterator[Stage]:
    """Start a run's processes in an empty folder; whatever still runs is ended with the block."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(LoopThread("wires"))
        wants_disk = bool(plan.disk_every) and not plan.only_kills
        no_disk = stack.enter_context(ledger_disk(folder / "state")) if wants_disk else "not wanted"
        world = new_world(folder)
        clocks = Clocks(folder)
        if wants_disk and no_disk:
            sys.stderr.write(f"chaos: no disk will be full, for none can be mounted here: {no_disk}\n")
        if plan.clock_every and not plan.only_kills and clocks.missing:
            sys.stderr.write(f"chaos: no clock will be moved: {clocks.missing}\n")
        notes = Notes(folder / "faults")
        stack.callback(notes.close)
        stage = Stage(plan, world, notes, clocks, loop, not no_disk)
        stage.open(stack)
        yield stage
