"""The end of an instance: what is left of it when nobody calls `stop`, and after somebody did."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import nullcontext
from typing import Any

import pytest
from support import wait_until
from support_hub import running_hub

from blocks_worker import start_agent_instance
from blocks_worker.config import state_dir

SCRIPT = """
import sys
from blocks_worker import start_agent_instance
options = {"agent_name": "echo", "handler": lambda task: "x", "on_fatal": lambda error: sys.exit(5)}
instance = start_agent_instance(options)
instance.wait_ready(20)
"""


@pytest.mark.parametrize("joins", [True, False], ids=["joins a hub", "runs the hub"])
def test_a_script_ends_when_its_instance_was_refused(monkeypatch: pytest.MonkeyPatch, *, joins: bool) -> None:
    """After a refusal for good no thread keeps the process, with a hub in it or not, whatever `on_fatal` does."""
    with running_hub(state_dir()) if joins else nullcontext():
        monkeypatch.setenv("BLOCKS_API_KEY", "bk_" + "0" * 40)
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 1
    assert "AgentAuthFatalError" in done.stderr


def test_a_stopped_instance_gives_no_client() -> None:
    """The client of an instance ends with it; asked for later there is none."""
    with running_hub(state_dir()), start_agent_instance({"agent_name": "echo", "handler": lambda _: "x"}) as instance:
        assert instance.task_client is instance.task_client
        instance.stop()

        with pytest.raises(RuntimeError, match="stopped"):
            _ = instance.task_client
        assert instance.get("state") == "stopped"


def test_several_instances_live_in_one_process() -> None:
    """[R-61] Each agent answers by itself, one that joined goes on when the one with the hub ends, in this process."""
    first = start_agent_instance({"agent_name": "one", "handler": lambda _: "from one"})
    try:
        with start_agent_instance({"agent_name": "two", "handler": lambda _: "from two"}) as second:
            for instance in (first, second):
                instance.wait_ready(20)
            assert (first.runs_hub, second.runs_hub) == (True, False)
            asked = {
                name: second.task_client.send_message(agent_name=name, request_parts="x") for name in ("one", "two")
            }
            for session in asked.values():
                session.wait_for_terminal(timeout=20)

            assert {name: session.text() for name, session in asked.items()} == {"one": "from one", "two": "from two"}

            first.stop()
            wait_until(lambda: second.runs_hub, what="the hub in the other instance")
            session = second.task_client.send_message(agent_name="two", request_parts="x")
            assert session.wait_for_terminal(timeout=30).state == "completed"
    finally:
        first.stop()


def test_who_drains_takes_no_hub_over(caplog: pytest.LogCaptureFixture) -> None:
    """[R-61] When the hub's owner goes meanwhile nobody starts it for a moment: the watch ended with the first word."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_task: Any) -> None:
        begun.set()
        go_on.wait(20)

    def watches() -> int:
        return sum(thread.name == "local-hub-watch" for thread in threading.enumerate())

    with (
        caplog.at_level(logging.INFO, "blocks_worker"),
        start_agent_instance({"agent_name": "one", "handler": lambda _: "x"}) as owner,
        start_agent_instance({"agent_name": "two", "handler": hold}) as leaving,
    ):
        leaving.wait_ready(20)
        leaving.task_client.send_message(agent_name="two", request_parts="x")
        assert begun.wait(20)
        stopping = threading.Thread(target=leaving.stop)
        stopping.start()
        wait_until(lambda: watches() == 1, what="the end of the watch, while the handler works")
        assert leaving.active_tasks

        owner.stop()
        assert (watches(), leaving.runs_hub) == (0, False)
        go_on.set()
        stopping.join(90)
        assert leaving.state == "stopped"
    assert sum(record.getMessage() == "local_hub_started" for record in caplog.records) == 1
