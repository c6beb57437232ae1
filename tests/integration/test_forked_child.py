"""A child that a handler forked: it holds nothing of its parent, says nothing for it, and ends where it comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support import wait_until
from support_hub import running_hub

from blocks_worker.processes import is_alive, this_process
from blocks_worker.protocol.leases import Process
from blocks_worker.state import StateFolder
from blocks_worker.worker.spool_file import SpoolFile, left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HUB = """
import os, signal, sys, pathlib
from blocks_worker.config import HubConfig
from blocks_worker.hub.hub import Hub
hub = Hub(HubConfig(state_dir=pathlib.Path(sys.argv[1]), port=0, reserve_bytes=1 << 20))
print(hub.start().url, flush=True)
"""
_SPOOL = """
import os, signal, sys, pathlib
from blocks_worker.worker.spool_file import SpoolFile
spool = SpoolFile(pathlib.Path(sys.argv[1]) / "left.spool")
spool.append([b"{}"])
print("written", flush=True)
"""
_HANDLER = """
import os, sys
from blocks_worker import BlocksError
from blocks_worker.testing import LocalStack

def handler(task, ctx):
    if not task.text().startswith("fork"):
        return "plain"
    ctx.call("forks", "before")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ctx.report_status("from the child")
        ctx.publish_artifact("from the child")
        try:
            ctx.call("forks", "from the child", timeout=5)
        except BlocksError as error:
            os.write(writing, str(error).encode())
        if task.text() == "fork and exit":
            sys.exit(7)
        if task.text() == "fork and raise":
            raise ValueError("from the child")
        return "from the child"
    os.close(writing)
    said = os.read(reading, 4096).decode()
    os.close(reading)
    return f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])} {said}"

with LocalStack({"forks": {"handler": handler, "concurrency": 2}}) as stack:
    for text in ("fork", "fork and exit", "fork and raise"):
        with stack.client.send_message("forks", text) as session:
            print(session.text(20))
            print([event.message or event.state or event.type for event in session.list_events()])
    print(stack.run("forks", "hi").text, len(stack.client.list_tasks().tasks))
"""
_FORK = """
from blocks_worker.processes import this_process
child = os.fork()
if child == 0:
    me = this_process()
    print(me.pid, me.started, flush=True)
    signal.pause()
signal.pause()
"""


@contextmanager
def orphan(code: str, folder: Path) -> Iterator[tuple[str, Process]]:
    """Run the code, have it fork, kill it, and give what it printed first and the child that lives on."""
    command = [sys.executable, "-W", "ignore", "-c", code + _FORK, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = parent.stdout.readline().strip()
        pid, started = parent.stdout.readline().split()
        child = Process(host=this_process().host, pid=int(pid), started=started)
        parent.kill()
        parent.wait()
        try:
            yield said, child
        finally:
            os.kill(child.pid, signal.SIGKILL)


def test_a_forked_child_keeps_neither_lock_nor_ports_of_a_killed_hub(tmp_path: Path) -> None:
    """Another hub gets the lock and both ports within two seconds, while the child lives. [R11] [D13]"""
    with orphan(_HUB, tmp_path) as (url, child):
        before = StateFolder(tmp_path).load_json("hub-kept.json")["network_port"]
        lock = StateFolder(tmp_path)
        wait_until(lock.try_lock, 2, "the lock")
        lock.unlock()

        with running_hub(tmp_path, port=int(url.rpartition(":")[2])) as caller:
            after = StateFolder(tmp_path).load_json("hub-kept.json")["network_port"]

            assert caller.ask("GET", "/livez").status == 200
        assert (caller.address.url, after) == (url, before)
        assert is_alive(child) is True


def test_a_forked_child_keeps_no_spool_of_a_killed_worker(tmp_path: Path) -> None:
    """The next worker may take what the killed one left, while the child lives. [R11]"""
    with orphan(_SPOOL, tmp_path) as (said, child):
        with left_behind(tmp_path / "left.spool") as lines:
            assert lines == [b"{}"]
        assert (said, is_alive(child)) == ("written", True)


def test_a_fork_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    """The parent still holds its lock and its spool after a child came and went. [D13]"""
    folder = StateFolder(tmp_path)
    assert folder.try_lock()
    spool = SpoolFile(tmp_path / "own.spool")
    try:
        # Through the interpreter's own fork, with its hooks; the child ends without a word of Python.
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        assert not StateFolder(tmp_path).try_lock()
        with left_behind(tmp_path / "own.spool") as lines:
            assert lines is None
    finally:
        spool.close()
        folder.unlock()


def test_a_child_of_a_handler_says_nothing_for_its_parent(tmp_path: Path) -> None:
    """It reaches no hub with what it has, says nothing, ends where its handler would; its parent works on. [C12]"""
    command = [sys.executable, "-W", "ignore", "-c", _HANDLER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)

    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stderr
    assert [line.split(" ")[0] for line in lines[:6:2]] == ["0", "7", "1"]
    assert all("belongs to the process that forked this one" in line for line in lines[:6:2])
    assert lines[1:6:2] == [str(["running", "artifact", "completed"])] * 3
    assert lines[6] == "plain 7"
