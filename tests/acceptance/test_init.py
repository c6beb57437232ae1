"""A project of `blocks init` as a new user has it: two terminals, an empty home, and the project's own tests."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import BIN, ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: Where mypy keeps what it knows of the package, as in the other tests of users' files.
CACHE = ROOT / ".mypy_cache/users"
CTRL_C = b"\x03"

INIT = """\
wrote hello/.dockerignore
wrote hello/.env
wrote hello/.gitignore
wrote hello/Dockerfile
wrote hello/README.md
wrote hello/agent-card.json
wrote hello/consumer.py
wrote hello/handler.py
wrote hello/pyproject.toml
wrote hello/tests/test_handler.py

now type:
  cd hello && blocks run
and in a second terminal:
  cd hello && python consumer.py
"""
FIRST = """\
[agent] starting hello
TIME INFO  keysets_made
TIME INFO  hub_started url=http://PLACE origin=http://PLACE
TIME INFO  local_hub_started url=http://PLACE folder=HOME/.local/state/blocks_worker
[agent] hub http://PLACE
[agent] concurrency 1
[agent] instance AG-hello-ID
[agent] ready: registered and listening
[agent] try it from a second terminal: blocks send hello Hello
TIME INFO  task_finished state=completed seconds=NUMBER task=ID
^C[agent] SIGINT received: draining, at most 60 s; once more cancels, a third time ends at once
TIME INFO  draining active=0 timeout=NUMBER
TIME INFO  hub_stopped
[agent] drained: 1 completed, 0 failed, 0 canceled, 0 given back
"""
SECOND = """\
PROGRESS
Hello, Ada!
Hello, Grace!
"""
#: What differs from run to run. Both steps are shown only where the machine takes its second for it, and of two that
#: meet the later one; where it stands still for some, that is told.
VARIES = {
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"127\.0\.0\.1:\d+": "PLACE",
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}": "ID",
    r"(?<==)\d+\.\d+": "NUMBER",
    r"(50% greeted Ada\n|100% greeted Grace\n)+": "PROGRESS\n",
    r"TIME WARN\w* +(heartbeat_starved|hub_stood_still) .*\n": "",
}


class Terminal:
    """One command in a terminal of its own: what stands on the screen, and the keyboard."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._keyboard, screen = pty.openpty()
        tty = os.ttyname(screen)
        # A new session's first process gets the terminal that it opens for its own: then Ctrl-C reaches the command.
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec <{tty} >{tty} 2>&1; {command}"],
            cwd=folder, env=environment, start_new_session=True,
        )  # fmt: skip
        self._started = time.monotonic()
        self._home = environment["HOME"]
        self._seen = b""
        # Its end is to be heard, so only the command has the screen; but not before it has.
        self._screen: int | None = screen

    def see(self, text: str = "", timeout: float = 150.0) -> str:
        """Return the screen once the text stands there, or at the end of the command."""
        while not text or text.encode() not in self._seen:
            ready, _, _ = select.select([self._keyboard], [], [], 0.1)
            if ready and self._read():
                if self._screen is not None:
                    os.close(self._screen)
                    self._screen = None
            elif not ready and self._process.poll() is None:
                assert time.monotonic() < self._started + timeout, self._seen.decode()
            else:
                assert not text, f"ended before {text!r}:\n{self._seen.decode()}"
                break
        return self._seen.decode().replace("\r\n", "\n")

    def _read(self) -> bool:
        try:
            read = os.read(self._keyboard, 65536)
        except OSError:  # how Linux says that nobody has the screen any more
            return False
        self._seen += read
        return bool(read)

    def settled(self) -> str:
        """Return the whole screen at the end, without what differs from run to run."""
        text = self.see().replace(self._home, "HOME")
        for pattern, word in VARIES.items():
            text = re.sub(pattern, word, text)
        return text

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._keyboard, key)

    def close(self) -> int:
        """Take the terminal away, with what still runs there; return the exit code."""
        if self._process.poll() is None and not self._ends():
            self._process.kill()
        os.close(self._keyboard)
        if self._screen is not None:
            os.close(self._screen)
        return self._process.wait()

    def _ends(self) -> bool:
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            return False
        return True


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the environment of somebody who has just installed the package: an empty home, and nothing set."""
    home = tmp_path_factory.mktemp("home")
    return {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(home), "TERM": "xterm", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Give a folder with the projects hello and asks."""
    folder = tmp_path_factory.mktemp("work")
    for arguments in (["hello"], ["--consumer", "asks"]):
        done = subprocess.run(
            ["blocks", "init", *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


def test_the_two_terminals_of_a_new_project(environment: dict[str, str], tmp_path: Path) -> None:
    """Three commands in an empty home, and what each of them shows: no key, no setting, no network. [D-1]"""
    shown = Terminal("blocks init hello", tmp_path, environment)
    assert shown.settled() == INIT
    assert shown.close() == 0
    serve, ask = re.findall(r"^  (.*)$", INIT, re.MULTILINE)

    first = Terminal(serve, tmp_path, environment)
    try:
        first.see("second terminal")
        second = Terminal(ask, tmp_path, environment)
        answered = second.settled()
        code = second.close()
        first.see("task_finished")
        first.press(CTRL_C)
        served = first.settled()
    finally:
        first.close()

    assert (answered, code) == (SECOND, 0)
    assert served == FIRST


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"BLOCKS_CDM_URL": "http://127.0.0.1:9/api/v1/cdm"}, "hello: "),
        ({"BLOCKS_CDM_URL": "https://hub.invalid/api/v1/cdm"}, "BLOCKS_API_KEY is not set"),
    ],
)
def test_a_consumer_says_in_one_line_what_it_lacks(
    environment: dict[str, str], folder: Path, tmp_path: Path, setting: dict[str, str], said: str
) -> None:
    """Started where no hub answers, or for a hub elsewhere without a key, it ends with a sentence and code 1."""
    done = subprocess.run(
        ["python", "consumer.py"],
        cwd=folder / "hello", env={**environment, "HOME": str(tmp_path), **setting},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_the_tests_of_a_new_project_pass(environment: dict[str, str], folder: Path) -> None:
    """Plain `pytest` in the agent's project and in the consumer's; the package's fixture costs them nothing."""
    started = [
        subprocess.Popen(
            ["pytest", "-q"], cwd=folder / name, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("hello", "asks")
    ]  # fmt: skip
    hello, asks = [(process.communicate(timeout=180)[0], process.returncode) for process in started]

    assert hello[1] == 0, hello[0]
    assert asks[1] == 0, asks[0]
    assert ("4 passed" in hello[0], "2 passed" in asks[0]) == (True, True)


@pytest.mark.parametrize("name", ["hello", "asks"])
def test_linters_have_nothing_to_say_of_a_new_project(folder: Path, name: str) -> None:
    """Ruff, its format and `mypy --strict` with no settings but the project's own. [R-65]"""
    for command in (
        ["ruff", "check", "--isolated", "--select", "E,W,F,I,UP,B,SIM,RUF,PT,N,ANN,D1"],
        ["ruff", "format", "--check", "--isolated"],
        ["mypy", "--strict", "--cache-dir", str(CACHE)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command, "."],
            cwd=folder / name, capture_output=True, text=True, timeout=230, check=False,
        )  # fmt: skip

        assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_project_can_be_installed(folder: Path, tmp_path: Path) -> None:
    """Its settings are such that its wheel can be built: it needs the package and brings no file of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=folder / "hello", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hello-0.1.0-py3-none-any.whl"]
