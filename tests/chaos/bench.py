"""What every measure stands on: a world with a hub of its own, workers with the handler of the measures, a client."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from acceptance.storm import start_hub
from chaos.figures import told
from chaos.notes import read
from support import LoopThread, wait_until
from support_processes import new_world
from support_wire import Wire

from blocks_worker.client.client import TaskClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_processes import Daemon, World

    from blocks_worker.client.session import TaskSession

HERE = Path(__file__).parent
#: Seconds in which a worker is ready on a machine that is busy with other things.
START = 180.0
#: The hub's and the network's wire of a worker.
Wires = tuple[Wire, Wire]


@dataclass(frozen=True)
class Row:
    """One figure: what it is of, what is wanted, what was measured."""

    name: str
    goal: str
    value: str
    is_kept: bool

    @classmethod
    def of_times(cls, name: str, seconds: list[float], most: float, part: float = 0.99) -> Row:
        """Judge times by the one that this part of them does not exceed."""
        ordered = sorted(seconds)
        worst = ordered[min(len(ordered) - 1, int(len(ordered) * part))]
        what = "p99" if part < 1 else "most"
        return cls(name, f"{what} ≤ {most:g} s", told(ordered), worst <= most)

    def __str__(self) -> str:
        return f"{'' if self.is_kept else 'NOT KEPT: '}{self.name}: {self.value} (wanted: {self.goal})"


class Bench:
    """Own the processes of one measure."""

    def __init__(
        self, world: World, stack: contextlib.ExitStack, transport: str, network: dict[str, Any] | None
    ) -> None:
        self.world = world
        self._stack = stack
        self._loop: LoopThread | None = None
        if network is None:
            self.hub = world.hub("--transport", transport)
        else:
            self.hub = start_hub(world, transport=transport, network=network)
        done = world.run("blocks", "keys", "create", "measure", "--json")
        assert done.returncode == 0, done.stderr
        self.key: str = json.loads(done.stdout)["key"]
        self.cdm_url = f"{world.environment['BLOCKS_HUB_URL']}/api/v1/cdm"
        self.client = TaskClient.create("free", cdm_url=self.cdm_url, api_key=self.key)
        stack.callback(self.client.destroy)

    def worker(self, *flags: str, through: Wires | None = None, wait: bool = True) -> Daemon:
        """Start a worker, behind wires if told, and wait until it is ready."""
        document = self.cdm_url
        if through is not None:
            document = str(self.world.folder / "cdm.json")
            told = self.document()
            hub, network = (wire.url for wire in through)
            told |= {"hubUrl": hub, "origin": network, "api": {**told["api"], "baseUrl": hub}}
            Path(document).write_text(json.dumps(told))
        daemon = self.world.start(
            *("blocks-run", "--handler", "soaked:handler", "--no-local", *flags),
            BLOCKS_CDM_URL=document,
            BLOCKS_API_KEY=self.key,
            PYTHONPATH=f"{HERE}:{HERE.parent}",
        )
        if wait:
            daemon.wait_for("[agent] ready", START)
        return daemon

    def wires(self) -> Wires:
        """Return wires to hub and network."""
        if self._loop is None:
            self._loop = self._stack.enter_context(LoopThread("wires"))
        ports = (self.world.port, int(self.document()["origin"].rpartition(":")[2]))
        hub, network = (self._stack.enter_context(Wire(port, self._loop)) for port in ports)
        return hub, network

    def document(self) -> dict[str, Any]:
        """Return the hub's document."""
        return dict(json.loads(urlopen(self.cdm_url, timeout=10).read()))  # noqa: S310 - our own hub

    def send(self, text: str, **options: Any) -> TaskSession:
        """Ask for one task."""
        return self.client.send_message(agent_name="soaked", request_parts=text, **options)

    def starts(self, task: str | None = None) -> list[dict[str, Any]]:
        """Return the notes of starts, of one task or of all."""
        return [note for note in read(self.world.runs) if note["word"] == "start" and task in {None, note["task"]}]

    def wait_for_starts(self, task: str, count: int, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Return the starts of a task once there are so many."""
        wait_until(lambda: len(self.starts(task)) >= count, timeout, f"start {count} of {task}")
        return self.starts(task)

    def flags(self) -> dict[str, float]:
        """Return when the handler of each task saw its stop."""
        return {note["task"]: note["at"] for note in read(self.world.runs) if note["word"] == "flag"}


@contextlib.contextmanager
def bench(transport: str = "pubnub", network: dict[str, Any] | None = None) -> Iterator[Bench]:
    """Start a hub, whose network has these settings, and a client in a new folder; everything ends with the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        world = new_world(folder, transport)
        stack.callback(_kill_all, world)
        yield Bench(world, stack, transport, network)


def settle(seconds: float) -> None:
    """Let time pass that the measure is about."""
    threading.Event().wait(seconds)


def _kill_all(world: World) -> None:
    for daemon in world.daemons:
        if daemon.process.poll() is None:
            daemon.kill()
