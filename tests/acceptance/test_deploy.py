"""What is shipped for a service manager is started as one would start it."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import tempfile
from configparser import RawConfigParser
from pathlib import Path

import pytest
from acceptance.conftest import BIN, ROOT, World

from blocks_worker.cli.exits import Exit

UNITS = sorted((ROOT / "deploy").rglob("*.service"))


class Unit:
    """A unit file as a service manager reads it, for one instance, with its folders below one of ours."""

    def __init__(self, path: Path, instance: str, states: Path) -> None:
        parser = RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        self._service = parser["Service"]
        self._specifiers = {"%i": instance, "%S": str(states)}

    def text(self, name: str) -> str:
        """Return a setting with its specifiers filled in."""
        text = self._service[name]
        for short, meant in self._specifiers.items():
            text = text.replace(short, meant)
        assert "%" not in text
        return text

    def environment(self, file: Path) -> dict[str, str]:
        """Return the variables that the unit sets, and those of its file."""
        lines = [self.text("Environment"), *file.read_text().splitlines()]
        return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_serves_and_drains_as_it_says(path: Path, world: World) -> None:
    """Its line starts with the variables it sets and no other, tells READY, serves, and ends in its time [R-7]."""
    hub = world.hub()
    made = world.run("blocks", "keys", "create", "unit", "--json")
    assert made.returncode == 0, made.stderr
    settings = world.folder / "echo.env"
    settings.write_text(
        f"BLOCKS_CDM_URL=http://127.0.0.1:{world.port}/api/v1/cdm\nBLOCKS_API_KEY={json.loads(made.stdout)['key']}\n"
    )
    unit = Unit(path, "echo", world.folder / "units")
    folder = Path(unit.text("WorkingDirectory"))
    folder.mkdir(parents=True)
    program, *arguments = shlex.split(unit.text("ExecStart"))

    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address := str(Path(place) / "notify"))
        manager.settimeout(30)
        log = (world.folder / "unit.log").open("wb")
        with log, subprocess.Popen(
            [str(BIN / Path(program).name), *arguments],
            env={"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": address, **unit.environment(settings)},
            cwd=folder, stdout=log, stderr=log,
        ) as process:  # fmt: skip
            try:
                assert "READY=1" in manager.recv(4096).decode().splitlines()
                sent = world.run("blocks", "send", "echo", "Hello")
                process.send_signal(signal.SIGTERM)
                assert "STOPPING=1" in manager.recv(4096).decode().splitlines()
                code = process.wait(int(unit.text("TimeoutStopSec")))
            finally:
                process.kill()

    assert (sent.returncode, sent.stdout.strip()) == (0, "Echoed request: Hello"), sent.stderr
    assert code == Exit.OK
    lines = (world.folder / "unit.log").read_text().splitlines()
    assert [json.loads(line)["level"] for line in lines]
    assert hub.process.poll() is None


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_does_not_restart_what_would_fail_again(path: Path, tmp_path: Path) -> None:
    """Wrong settings, refused keys and newer instances end it for good, everything else starts it again [R-7]."""
    final = {int(code) for code in Unit(path, "echo", tmp_path).text("RestartPreventExitStatus").split()}

    assert final == {Exit.FAILED, Exit.USAGE, Exit.REFUSED, Exit.SUPERSEDED}
