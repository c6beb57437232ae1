"""What is shipped and written for a service manager is started as one would start it."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import BIN, ROOT, World
from support import wait_until

from blocks_worker.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = sorted((ROOT / "deploy").rglob("*.service"))
#: Seconds of the watchdog here: pings come three times as often.
WATCHDOG = 0.9

HANDLER = """
def handler(task, ctx):
    if task.text() == "hang":
        return sum(range(10**12))  # never lets another thread run
    ctx.report_status("waiting")
    ctx.wait(60)
    return "stopped"
"""


class Unit:
    """A unit file as a service manager reads it, for one instance, with its folders below one of ours."""

    def __init__(self, path: Path, instance: str, states: Path) -> None:
        self._settings: dict[str, list[str]] = defaultdict(list)
        self._specifiers = {"i": instance, "S": str(states), "%": "%"}
        for line in path.read_text(encoding="utf-8").splitlines():
            name, sign, text = line.partition("=")
            if sign and not line.startswith("#"):
                self._settings[name].append(re.sub("%(.)", lambda found: self._specifiers[found[1]], text))

    def text(self, name: str) -> str:
        """Return a setting that stands there once."""
        (text,) = self._settings[name]
        return text

    def environment(self, settings: str, credentials: Path) -> dict[str, str]:
        """Return the variables that the unit sets, then those of its file, then the credential's."""
        lines = [*self._settings["Environment"], *settings.splitlines()]
        pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
        credential = self._settings["LoadCredential"]
        return {**dict(pairs), **({"CREDENTIALS_DIRECTORY": str(credentials)} if credential else {})}

    def command(self, environment: dict[str, str]) -> list[str]:
        """Return program and arguments; those that are shipped are looked for in this environment."""
        words = shlex.split(self.text("ExecStart"))
        filled = [
            re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], word).replace("$$", "$") for word in words
        ]
        program = Path(filled[0])
        return [str(program if program.exists() else BIN / program.name), *filled[1:]]


class Service:
    """A process that was started by its unit, and all that it told the manager."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.told: list[str] = []
        self._seen = 0

    def listen(self, manager: socket.socket) -> None:
        """Take what comes until an empty word does: a socket that is full would lose the rest."""
        while said := manager.recv(4096):
            self.told += said.decode().splitlines()

    def until(self, wanted: str, timeout: float = 90.0) -> None:
        """Wait for a state that was not waited for yet."""
        try:
            wait_until(lambda: wanted in self.told[self._seen :], timeout, wanted)
        except AssertionError:
            pytest.fail(f"{wanted} not in {self.told}, exit code {self.process.poll()}\n{self.log.read_text()}")
        self._seen = self.told.index(wanted, self._seen) + 1

    def is_silent(self) -> bool:
        """Tell whether nothing came for as long as the manager waits."""
        said = len(self.told)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(WATCHDOG)
        return len(self.told) == said

    def end(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.until("STOPPING=1")
        return self.process.wait(30)


@contextmanager
def service(unit: Unit, world: World, settings: str, key: str = "") -> Iterator[Service]:
    """Start what a unit says in an environment that has nothing else, with a socket and a watchdog of ours."""
    (credentials := world.folder / "credentials").mkdir(exist_ok=True)
    (credentials / "api-key").write_text(f"{key}\n")
    (folder := Path(unit.text("WorkingDirectory"))).mkdir(parents=True, exist_ok=True)
    address = f"blocks-{world.port}-{folder.name}"
    log = world.folder / f"{folder.name}.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("wb") as file:
        manager.bind("\0" + address)
        environment = {
            "PATH": "/usr/bin:/bin",
            "NOTIFY_SOCKET": f"@{address}",
            "WATCHDOG_USEC": str(int(WATCHDOG * 1_000_000)),
            **unit.environment(settings, credentials),
        }
        with subprocess.Popen(
            unit.command(environment), env=environment, cwd=folder, stdout=file, stderr=file
        ) as process:
            served = Service(process, log)
            listener = threading.Thread(target=served.listen, args=(manager,))
            listener.start()
            try:
                yield served
            finally:
                process.kill()
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
                    door.sendto(b"", "\0" + address)
                listener.join(10)


def made_key(world: World, **more: str) -> str:
    """Make an API key at the hub."""
    made = world.run("blocks", "keys", "create", "unit", "--json", **more)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["key"])


def test_the_units_serve_watch_and_drain_as_they_say(world: World) -> None:
    """Hub and worker start with what their units set and no more, are READY, ping, serve, STOP in time [R-7]."""
    states = world.folder / "units"
    hub_unit = Unit(ROOT / "deploy/systemd/blocks-hub.service", "", states)
    worker_unit = Unit(ROOT / "deploy/systemd/blocks-worker@.service", "echo", states)
    hub_state = {"BLOCKS_STATE_DIR": str(states / "blocks-hub")}
    with ExitStack() as stack:
        hub = stack.enter_context(service(hub_unit, world, f"HUB_PORT={world.port}\n"))
        hub.until("READY=1")
        key = made_key(world, **hub_state)
        settings = f"BLOCKS_CDM_URL=http://127.0.0.1:{world.port}/api/v1/cdm\n"
        worker = stack.enter_context(service(worker_unit, world, settings, key))
        for each in (worker, hub):
            each.until("WATCHDOG=1")
            each.until("WATCHDOG=1")
        sent = world.run("blocks", "send", "echo", "Hello", **hub_state)
        codes = [worker.end(), hub.end()]

    assert (sent.returncode, sent.stdout.strip()) == (0, "Echoed request: Hello"), sent.stderr
    assert codes == [Exit.OK, Exit.OK]
    assert key not in worker.log.read_text()
    for each, status in ((worker, "STATUS=ready, 0 of 1 slot busy"), (hub, "STATUS=ready, listening on ")):
        told = each.told[each.told.index("READY=1") :]
        assert told[1].startswith(status)
        assert told.index("WATCHDOG=1") < told.index("STOPPING=1")
    assert [json.loads(line)["level"] for line in worker.log.read_text().splitlines()]


def test_a_unit_that_was_written_here_tells_how_it_stands(world: World) -> None:
    """What `blocks deploy` wrote runs: busy slots are told, and a process that hangs pings no more [R-7]."""
    world.hub()
    (folder := world.folder / "an app").mkdir()
    (folder / "waits.py").write_text(HANDLER)
    entry = {"name": "waits", "runtime": "python", "entrypoint": "waits:handler", "defaults": {"concurrency": 2}}
    (folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": [entry]}))
    done = subprocess.run(
        [BIN / "blocks", "deploy", "--systemd"],
        cwd=folder, env=world.environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    unit = Unit(folder / "deploy/blocks-worker-waits.service", "", world.folder / "units")
    settings = (folder / "deploy/waits.env").read_text()

    assert "sudo systemctl enable --now blocks-worker-waits" in done.stdout
    assert stat.S_IMODE((folder / "deploy/waits.env").stat().st_mode) == 0o600
    with service(unit, world, settings, made_key(world)) as worker:
        worker.until("READY=1")
        client = world.start("blocks", "send", "waits", "please")
        worker.until("STATUS=ready, 1 of 2 slots busy")
        worker.until("WATCHDOG=1")
        world.start("blocks", "send", "waits", "hang")
        wait_until(worker.is_silent, 90, "a process that hangs")
        assert worker.process.poll() is None
    client.kill()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_does_not_restart_what_would_fail_again(path: Path, tmp_path: Path) -> None:
    """Wrong settings, refused keys and newer instances end it for good, everything else starts it again [R-7]. [D10]"""
    final = {int(code) for code in Unit(path, "echo", tmp_path).text("RestartPreventExitStatus").split()}

    assert final == {Exit.FAILED, Exit.USAGE, Exit.REFUSED, Exit.SUPERSEDED}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_leaves_little_to_an_intruder(path: Path) -> None:
    """The exposure that systemd itself computes is 2.0 at most."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    done = subprocess.run(
        [tool, "security", "--offline=yes", "--threshold=20", str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
