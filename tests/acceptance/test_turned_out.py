"""Real workers whose key is taken back or whose agent is taken offline: they end by themselves, and say why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import wait_until

if TYPE_CHECKING:
    from conftest import Daemon, World


def ended(daemon: Daemon, timeout: float = 60.0) -> int:
    """Return the exit code, once there is one."""
    wait_until(lambda: daemon.process.poll() is not None, timeout, "its end")
    return int(daemon.process.returncode)


def made_key(world: World, *more: str) -> dict[str, Any]:
    """Make a key with the command."""
    done = world.run("blocks", "keys", "create", "worker", "--json", *more)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_worker_whose_key_is_revoked_ends_with_77(world: World) -> None:
    """[2.13, R-32] One line says what happened, after the beat that told it; others go on, a new secret or not. [G2]"""
    world.hub()
    key = made_key(world)
    doomed = world.worker("echo", BLOCKS_API_KEY=key["key"])
    other = world.worker("adder")

    assert world.run("blocks", "send", "echo", "Hello").stdout.strip() == "Echoed request: Hello"
    rotated = world.run("blocks", "keys", "rotate-secret")
    assert (rotated.returncode, rotated.stdout.count("signs from now on")) == (0, 1), rotated.stderr
    assert world.run("blocks", "send", "echo", "again").stdout.strip() == "Echoed request: again"
    assert world.run("blocks", "keys", "revoke", key["id"]).returncode == 0

    assert ended(doomed) == 77
    assert "the API key was revoked" in doomed.text()
    assert "BLOCKS_API_KEY" in doomed.text()
    assert "Traceback" not in doomed.text()
    assert other.process.poll() is None
    wait_until(lambda: world.agents()["echo"] == [], what="nobody serves it")


WAITING = """
from blocks_worker import AgentAuthFatalError, TaskClient
with TaskClient.create("free") as client, client.send_message(agent_name="hold", request_parts="x") as session:
    print("sent", flush=True)
    try:
        session.wait_for_terminal(None)
    except AgentAuthFatalError as error:
        print(error)
    print([block.splitlines()[0] for block in session.sse()][-1])
"""


def test_whoever_waits_with_a_key_that_is_revoked_is_told(world: World) -> None:
    """[A-8, R-28] No wait goes on for a word that cannot come; the task itself does."""
    world.hub()
    world.worker("handlers:hold")
    key = made_key(world)
    script = world.start("python", "-c", WAITING, BLOCKS_API_KEY=key["key"])
    command = world.start("blocks", "send", "hold", "y", BLOCKS_API_KEY=key["key"])
    script.wait_for("sent")
    wait_until(lambda: len(json.loads(world.run("blocks", "tasks", "--json").stdout)) == 2, 90, "two tasks")
    assert world.run("blocks", "keys", "revoke", key["id"]).returncode == 0

    assert ended(script, 60) == 0
    assert ended(command, 60) == 1
    assert "event: closed" in script.text()
    for daemon in (script, command):
        assert "the API key was revoked" in daemon.text()
        assert "Traceback" not in daemon.text()


def test_a_worker_whose_agent_goes_offline_ends_with_77(world: World) -> None:
    """Its task waits, and is done by the next worker after the agent is online again."""
    world.hub()
    worker = world.worker("echo")
    assert world.run("blocks", "agents", "offline", "echo").returncode == 0
    assert ended(worker) == 77
    assert "blocks agents online echo" in worker.text()

    assert world.run("blocks", "agents", "online", "echo").returncode == 0
    world.worker("echo")
    assert world.run("blocks", "send", "echo", "again").stdout.strip() == "Echoed request: again"


def test_a_foreign_key_in_a_newcomers_environment(world: World) -> None:
    """`blocks-run` with its own hub says which variable is in the way, and what to do; without it all is well."""
    done = world.run("blocks-run", "--handler", "echo", BLOCKS_API_KEY="bk_" + "x" * 43)

    assert done.returncode == 77
    assert "BLOCKS_API_KEY" in done.stderr
    assert "unset it" in done.stderr
    world.worker("echo")
    refused = world.run("blocks", "send", "echo", "Hello", BLOCKS_API_KEY="bk_" + "x" * 43)
    assert (refused.returncode, "unset it" in refused.stderr) == (1, True)
    assert world.run("blocks", "send", "echo", "Hello").stdout.strip() == "Echoed request: Hello"
