"""Real processes: our own programs, each with its output in a file, and a state folder that they share."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import wait_until

from blocks_worker.cli.signals import ECHO

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]


@dataclass
class Daemon:
    """One program of ours, its output in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 90.0) -> None:
        """Wait until it printed the text; fail when it ends before."""

        def printed() -> bool:
            if text in self.text():
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text()}"
            return False

        wait_until(printed, timeout, what=f"{text!r} in\n{self.text()}")

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait()

    def signal(self, count: int = 1) -> None:
        """Send SIGTERM until it has counted this many times; what comes at once after one that counted is its echo."""

        def counted() -> int:
            return self.text().count("SIGTERM received")

        for number in range(counted() + 1, count + 1):
            if number > 1:
                threading.Event().wait(ECHO + 0.1)
            # Once: it may be told late, when another one would count as well.
            self.process.terminate()
            wait_until(lambda number=number: counted() >= number, what=f"{number} signals")  # type: ignore[misc]

    def terminate(self, timeout: float = 20.0) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@dataclass
class World:
    """A state folder, and the processes that share it."""

    folder: Path
    environment: dict[str, str]
    port: int
    daemons: list[Daemon] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """The file in which handlers note their runs."""
        return self.folder / "runs"

    def notes(self, word: str) -> list[list[str]]:
        """Return the lines that handlers noted under a word."""
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return [line.split() for line in lines if line.startswith(f"{word} ")]

    def open_gate(self) -> None:
        """Let the handlers that wait return."""
        (self.folder / "gate").touch()

    def start(self, *args: str, **more: str) -> Daemon:
        """Start one of our programs."""
        log = self.folder / f"log-{len(self.daemons)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(BIN / args[0]), *args[1:]],
                env={**self.environment, **more},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        daemon = Daemon(process, log)
        self.daemons.append(daemon)
        return daemon

    def worker(self, handler: str, *args: str, **more: str) -> Daemon:
        """Start a worker daemon and wait until it is ready."""
        daemon = self.start("blocks-run", "--handler", handler, *args, **more)
        daemon.wait_for("[agent] ready")
        return daemon

    def hub(self, *args: str) -> Daemon:
        """Start a hub of its own and wait until it listens."""
        daemon = self.start("blocks-hub", "--port", str(self.port), *args)
        daemon.wait_for("[hub] listening")
        return daemon

    def run(self, *args: str, timeout: float = 60.0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of our commands to its end."""
        return subprocess.run(
            [str(BIN / args[0]), *args[1:]],
            env={**self.environment, **more},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def agents(self) -> dict[str, list[dict[str, Any]]]:
        """Return the instances of each agent, as ``blocks agents --json`` tells."""
        done = self.run("blocks", "agents", "--json")
        assert done.returncode == 0, done.stderr
        return {agent["agentName"]: agent["instances"] for agent in json.loads(done.stdout)}


def free_port() -> int:
    """Return a port that was free a moment ago, and is given to nobody who lets the system choose one."""
    for port in _PORTS:
        if all(_is_free(family, host, port) for family, host in _LOOPBACK):
            return port
    raise AssertionError("there is always another one")


def _own_ports() -> list[int]:
    """Return ports in any order that only this one of the processes which run the tests beside each other may draw.

    They are below those that the system chooses from: else it gives one to another test before a hub listens there.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(12_000 + number, 32_000, processes)
    return random.SystemRandom().sample(own, len(own))


_PORTS = itertools.cycle(_own_ports())
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def _is_free(family: int, host: str, port: int) -> bool:
    """Tell whether nobody listens there; an address that is not there at all is free."""
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def new_world(folder: Path, transport: str | None = None) -> World:
    """Return an empty world in a folder that is there; its processes speak by this transport, if one is told."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "BLOCKS_STATE_DIR": str(folder / "state"),
        "BLOCKS_HUB_URL": f"http://127.0.0.1:{port}",
        "PYTHONPATH": str(ROOT / "tests/acceptance"),
        "PYTHONUNBUFFERED": "1",
        "RUNS": str(folder / "runs"),
        "GATE": str(folder / "gate"),
        "NO_COLOR": "1",
    }
    if transport:
        environment["BLOCKS_TRANSPORT"] = transport
    return World(folder, environment, port)
