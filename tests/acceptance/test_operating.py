"""An operator looks at a running worker and takes it out of service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import BIN
from support import wait_until

from blocks_worker import __version__
from blocks_worker.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient


def test_an_instance_is_looked_at_and_drained(world: World) -> None:
    """[P7] It is listed and counted while it works; asked to drain it finishes its task and ends with 0."""
    world.hub()
    worker = world.worker("handlers:hold", "--instance-id", "hold-on-one", "--concurrency", "2")
    client = world.start("blocks", "send", "hold", "x")
    wait_until(lambda: world.notes("start"), 20, "the run")

    # First, as what was sent counts for a minute.
    look = json.loads(world.run("blocks", "top", "--once", "--json").stdout)
    (row,) = json.loads(world.run("blocks", "instances", "--json").stdout)
    listed = world.run("blocks", "instances", "--agent", "hold").stdout.splitlines()[1].split("\t")
    unknown = world.run("blocks", "drain", "nobody")
    hurried = world.run("blocks", "drain", "hold-on", "--wait", "--timeout", "0")
    draining = json.loads(world.run("blocks", "instances", "--json").stdout)
    waiter = world.start("blocks", "drain", "hold-on-one", "--wait", "--timeout", "60", "--json")
    waiter.wait_for('"draining"')
    world.open_gate()

    assert (row["instanceId"], row["activeTasks"], row["sdkVersion"]) == ("hold-on-one", 1, __version__)
    assert [*listed[:4], listed[5]] == ["hold-on-one", "hold", "ready", "1/2", __version__]
    (agent,) = look["agents"]
    assert agent == {
        "agentName": "hold", "instances": {"ready": 1}, "slots": 2, "busy": 1, "recent": {"running": 1}
    }  # fmt: skip
    assert (look["open"], look["sent"], look["complete"]) == (
        {"pending": 0, "running": 1, "paused": 0, "input-required": 0},
        1,
        True,
    )
    assert (unknown.returncode, "'blocks instances'" in unknown.stderr) == (Exit.FAILED, True)
    assert (hurried.returncode, hurried.stdout) == (Exit.TIMEOUT, "hold-on-one was asked to drain, 1 task left\n")
    assert [one["state"] for one in draining] == ["draining"]
    assert waiter.process.wait(90) == Exit.OK
    assert client.process.wait(60) == 0
    assert worker.process.wait(60) == Exit.OK
    assert "[agent] drained, as the hub asked" in worker.text()


def test_an_instance_that_hosts_the_hub_is_drained(world: World) -> None:
    """The hub goes with it, and whoever waits for its end is told of that as of any other."""
    worker = world.worker("echo", "--instance-id", "hosts-it")

    drained = world.run("blocks", "drain", "hosts-it", "--wait", "--timeout", "30")

    assert (drained.returncode, drained.stderr) == (Exit.OK, "")
    assert worker.process.wait(30) == Exit.OK


def test_what_runs_is_shown_anew_until_ctrl_c(world: World) -> None:
    """On a terminal the look is drawn again and again, and Ctrl-C ends it with its code."""
    world.hub()
    world.worker("echo", "--instance-id", "seen")
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [BIN / "blocks", "top", "--interval", "0.2"],
        env={**world.environment, "TERM": "xterm", "COLUMNS": "120"}, cwd=world.folder,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = ""
        try:
            while shown.count("1 ready") < 3:
                shown += os.read(ours, 65536).decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == Exit.INTERRUPTED
        finally:
            process.kill()
            os.close(ours)

    assert "your tasks: 0 pending, 0 running, 0 paused, 0 input-required; 0 of the last minute, 0 a second" in shown


def test_a_signal_that_another_thread_is_given_ends_the_daemon(world: World) -> None:
    """The main thread, which waits and is not woken by it, comes round and drains: no signal is lost."""
    code = (
        "import signal, threading\n\n\n"
        "def handler(task):\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "    return 'asked'\n"
    )
    (world.folder / "stopper.py").write_text(code)
    world.hub()
    worker = world.worker("stopper:handler")

    assert world.run("blocks", "send", "stopper", "x").stdout.strip() == "asked"

    assert worker.process.wait(60) == 0
    assert "SIGTERM received: draining" in worker.text()


def test_the_interpreter_gives_way_sooner_while_a_handler_computes(
    world: World, client: Callable[[], TaskClient]
) -> None:
    """It does as it always does until a thread holds it for long: then others need not wait for 5 ms each time."""
    world.worker("handlers:compute")
    said = client().send_message("compute", "x").text(60)
    assert [float(each) for each in said.split()] == pytest.approx([0.005, 0.0002])
