"""What the hub asks of its disk, seen from outside: each answer waits for its sync, however slow the disk is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_hub import Caller

from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient

    Open = Callable[[], TaskClient]

#: How slow the slow disk is, in seconds a sync.
SLOW = 0.5


@contextmanager
def traced(world: World, pid: int, *options: str) -> Iterator[Path]:
    """Have strace write down the syncs of a process, or spoil them, or skip aloud; give the file."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    log, said = world.folder / "strace", world.folder / "strace.said"
    with said.open("wb") as file:
        command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", *options, "-o", log, "-p", str(pid)]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        wait_until(lambda: b"attached" in said.read_bytes() or tracer.poll() is not None, what="strace")
        if tracer.poll() is not None:
            pytest.skip(f"strace may not attach here: {said.read_text()}")
        yield log
    finally:
        tracer.terminate()
        tracer.wait(10)


def synced(log: Path) -> list[str]:
    """Return the names of what was synced, in order."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [name.rpartition("/")[2] for name in re.findall(r"sync\(\d+<([^>]*)>", text)]


class Flood:
    """Ask for tasks over bare HTTP, a new one every tenth of a second; who is turned away comes again when told."""

    def __init__(self, world: World, tasks: int) -> None:
        self._state = StateFolder(world.folder / "state")
        self.pauses: list[str] = []
        self.taken: list[str] = []
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(tasks)]

    def begin(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def wait(self, timeout: float) -> None:
        """Wait until each was taken."""
        for thread in self._threads:
            thread.join(timeout)
        assert len(self.taken) == len(self._threads)

    def _send(self, number: int) -> None:
        address, key = self._state.discovered(), self._state.read_local_key()
        assert address is not None
        hub, pause = Caller(address, key or ""), threading.Event()
        token = hub.consumer()["accessToken"]
        pause.wait(number / 10)
        wanted = {"agentName": "hold", "idempotencyKey": f"flood-{number}", "requestParts": [{"text": "x"}]}
        while (answered := hub.ask("POST", "/api/v1/tasks", wanted, bearer=token)).status == 503:
            self.pauses.append(answered.headers["retry-after"])
            pause.wait(float(self.pauses[-1]))
        self.taken.append(answered.json["taskId"])
        hub.pool.clear()


def test_no_answer_comes_before_its_sync(world: World, client: Open) -> None:
    """Each task that is taken in costs a sync of the ledger's log, and is answered after it. [E2]"""
    hub = world.hub()
    world.worker("handlers:later").terminate()
    here = client()
    with traced(world, hub.process.pid, "-e", f"inject=fdatasync:delay_exit={int(SLOW * 1e6)}") as log:
        for _ in range(3):
            before, began = synced(log).count("hub.sqlite3-wal"), time.monotonic()
            here.send_message(agent_name="later", request_parts="x")

            # Two clocks.
            assert time.monotonic() - began >= SLOW * 0.95
            assert synced(log).count("hub.sqlite3-wal") > before


def test_what_is_new_is_named_on_the_disk(world: World) -> None:
    """A first start syncs secrets and ledger, after each the folder of its name, and first that one's own. [E2]"""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    log = world.folder / "strace"
    # The tracer stands aside (-D), so that what is started is the hub.
    command = [
        "strace",
        "-D",
        "-f",
        "-y",
        "-e",
        "trace=fsync,fdatasync",
        "-o",
        log,
        Path(sys.executable).with_name("blocks-hub"),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, env=world.environment, cwd=world.folder, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        said = hub.stdout.readline()
        hub.terminate()
        assert (hub.wait(60), "listening" in said) == (0, True)
    wait_until(lambda: "exited with 0" in log.read_text().rpartition("\n")[0].rpartition("\n")[2], what="the trace")
    names = synced(log)

    assert names[0] == world.folder.name, "the folder in which the state folder is"
    for made in (".hub-secret", ".hub-kept.json", "hub.sqlite3-wal", ".local-key"):
        first = next(place for place, name in enumerate(names) if name.startswith(made))
        assert "state" in names[first + 1 : first + 3], (made, names)


def test_a_slow_disk_delays_and_loses_nothing(world: World, client: Open) -> None:
    """Half a second for each sync: those who wait share commits, no lease is lost, each task runs once. [E14]"""
    hub = world.hub()
    world.worker("handlers:hold", "--no-local", "--concurrency", "8")
    world.open_gate()
    here = client()
    with traced(world, hub.process.pid, "-e", f"inject=fdatasync:delay_enter={int(SLOW * 1e6)}") as log:
        sessions = [one for _ in range(2) for one in here.send_many([{"agent_name": "hold", "request_parts": "x"}] * 8)]
        states = {session.wait_for_terminal(timeout=60).state for session in sessions}
        syncs = synced(log).count("hub.sqlite3-wal")

    assert states == {"completed"}
    runs = [task for _, task, *_ in world.notes("start")]
    assert sorted(runs) == sorted(session.task_id for session in sessions)
    # A commit for each turn of each task would be three times as many as there are tasks.
    assert 3 <= syncs < 2 * len(sessions)


def test_a_disk_too_slow_for_what_comes_turns_work_away(world: World, client: Open) -> None:
    """New work gets 503 with a pause and is taken later; what was acknowledged ends once, in one attempt. [E14]"""
    hub = world.hub()
    world.worker("handlers:hold", "--no-local", "--concurrency", "8")
    here = client()
    held = here.send_many([{"agent_name": "hold", "request_parts": "x"}] * 4)
    wait_until(lambda: len(world.notes("start")) == len(held), what="the runs that go on meanwhile")
    flood = Flood(world, 24)
    with traced(world, hub.process.pid, "-e", f"inject=fdatasync:delay_enter={int(3 * SLOW * 1e6)}"):
        flood.begin()
        sent = here.send_message(agent_name="hold", request_parts="x", timeout=60)
        flood.wait(60)
    world.open_gate()

    assert flood.pauses, "some were turned away"
    assert set(flood.pauses) <= {str(seconds) for seconds in range(1, 11)}
    acknowledged = [sent.task_id, *(session.task_id for session in held), *flood.taken]
    wait_until(lambda: all(here.get_task(task).state == "completed" for task in acknowledged), 60, what="all ends")
    assert sorted(task for _, task, *_ in world.notes("start")) == sorted(acknowledged)
