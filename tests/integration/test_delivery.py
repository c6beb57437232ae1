"""What a sender and a card may say about how a task is run, on the whole way: limits, order, once at most, drains."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import BareRun, Caller, running_hub

from blocks_worker import TaskClient, start_agent_instance
from blocks_worker.cli.main import blocks
from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Open a client of the hub."""
    assert hub.address.url
    with TaskClient.create("free") as made:
        yield made


class Gate:
    """A handler that notes the texts it was called with, and works until it is let go or asked to stop."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.go = threading.Event()

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        self.runs.append(task.text())
        while not self.go.wait(0.01):
            if ctx.is_cancelled:
                return "stopped"
        return "done"


def card(name: str, **runtime: Any) -> dict[str, Any]:
    """Return a card."""
    identity = {"agentName": name, "displayName": name, "description": "d", "version": "1"}
    return {"identity": identity, "runtime": {"handler": "x.py", **runtime}}


def test_each_task_has_the_limit_that_its_sender_gave(client: TaskClient) -> None:
    """Of two tasks of one agent the one with the short `max_runtime` is failed by it; the other goes on. [R-56]"""
    gate = Gate()
    with start_agent_instance({"agent_name": "limits", "handler": gate, "concurrency": 2}) as instance:
        instance.wait_ready(30)
        short = client.send_message(agent_name="limits", request_parts="short", max_runtime=0.3)
        long = client.send_message(agent_name="limits", request_parts="long")
        ended = short.wait_for_terminal(30)
        wait_until(lambda: long.state == "running", what="the other one")
        gate.go.set()

        assert (ended.state, ended.error, ended.reason) == ("failed", "timeout", "max_runtime")
        assert long.text(30) == "done"


def test_a_silent_run_fails_for_the_sender_and_for_the_card(client: TaskClient) -> None:
    """[C2] `blocks send --progress-timeout` and the card's `progressTimeoutSec` end what hangs, each in its time."""
    gate = Gate()
    silent = card("silent", concurrency=2, progressTimeoutSec=2)
    with start_agent_instance({"card": silent, "handler": gate}) as instance:
        instance.wait_ready(30)
        by_card = client.send_message("silent", "card")
        by_flag = CliRunner().invoke(blocks, ["send", "silent", "flag", "--progress-timeout", "0.3s"])
        ended = by_card.wait_for_terminal(30)
        gate.go.set()

        assert by_flag.exit_code == 1
        assert by_flag.stderr.endswith("failed: timeout: it said nothing for too long (progress_timeout)\n")
        assert (ended.state, ended.error_code, ended.reason) == ("failed", "timeout", "progress")


def test_who_came_first_is_first_and_agents_hold_up_only_themselves(client: TaskClient) -> None:
    """Behind a busy slot tasks run in the order in which they came, and another agent's run meanwhile. [R-56]"""
    busy, other = Gate(), Gate()
    other.go.set()
    with (
        start_agent_instance({"agent_name": "busy", "handler": busy}) as first,
        start_agent_instance({"agent_name": "other", "handler": other}) as second,
    ):
        first.wait_ready(30)
        second.wait_ready(30)
        sessions = [client.send_message("busy", str(number)) for number in range(20)]
        assert client.run("other", "passes", 30).text == "done"
        waiting = client.get_task(sessions[-1].task_id)
        wait_until(lambda: busy.runs, what="the first one")
        assert busy.runs == ["0"]
        busy.go.set()
        for session in sessions:
            session.wait_for_terminal(20)

    assert busy.runs == [str(number) for number in range(20)]
    assert waiting.extra["waitsFor"] == "room"


def test_at_most_once_by_card(client: TaskClient) -> None:
    """What a drain interrupts is never started again where the card says so; else it waits for the next. [D-2] [B21]"""
    gate, states = Gate(), {}
    for name, delivery in (("once", "at_most_once"), ("again", "at_least_once")):
        with start_agent_instance({"handler": gate, "card": card(name, delivery=delivery)}) as instance:
            instance.wait_ready(30)
            session = client.send_message(name, name)
            wait_until(lambda name=name: name in gate.runs, what="the run")  # type: ignore[misc]
            instance.stop(0)
        task_id = session.task_id
        wait_until(lambda task_id=task_id: client.get_task(task_id).state != "running", what="it is given back")  # type: ignore[misc]
        states[name] = client.get_task(task_id).state
    gate.go.set()
    for name in states:
        with start_agent_instance({"handler": gate, "card": card(name)}) as instance:
            instance.wait_ready(30)
            assert client.run(name, "after", 20).text == "done"

    assert states == {"once": "canceled", "again": "pending"}
    assert gate.runs == ["once", "again", "after", "again", "after"]


def test_at_most_once_by_its_sender(client: TaskClient, hub: Caller) -> None:
    """Whoever asks may want one run at most, at the command line too: what is lost then is given up. [D-2] [B21]"""
    gate = Gate()
    with start_agent_instance({"agent_name": "asked", "handler": gate}) as instance:
        instance.wait_ready(30)
        session = client.send_message("asked", "once", delivery="at_most_once")
        wait_until(lambda: gate.runs == ["once"], what="the run")
        instance.stop(0)
    ended = session.wait_for_terminal(20)
    hub.connect("idle")
    CliRunner().invoke(blocks, ["send", "idle", "x", "--at-most-once", "--timeout", "0"])
    (typed,) = client.list_tasks(ListTasksParams(agent_name="idle")).tasks
    idle = hub.connect("idle", incarnation="x")["accessToken"]
    BareRun(hub, idle, typed.task_id).release()

    assert (ended.state, ended.reason) == ("canceled", "drained")
    assert client.get_task(typed.task_id).extra["reason"] == "drained"


def test_stop_lets_running_tasks_finish_unless_told_otherwise(
    client: TaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word about it `stop` has 60 seconds for what runs, and cuts nothing off; the task completes. [D-6]"""
    caplog.set_level(logging.INFO)
    gate = Gate()
    instance = start_agent_instance({"agent_name": "drained", "handler": gate})
    instance.wait_ready(30)
    session = client.send_message("drained", "x")
    wait_until(lambda: gate.runs, what="the run")
    stopping = threading.Thread(target=instance.stop)
    begun = time.monotonic()
    stopping.start()
    wait_until(lambda: instance.state == "draining", what="the drain")
    late = client.send_message("drained", "late")
    wait_until(lambda: time.monotonic() - begun > 1, what="a while")
    assert stopping.is_alive()
    gate.go.set()
    stopping.join(30)

    assert not stopping.is_alive()
    assert session.text(30) == "done"
    assert client.get_task(late.task_id).state == "pending"
    assert gate.runs == ["x"]
    (draining,) = [vars(record) for record in caplog.records if record.message == "draining"]
    assert round(draining["timeout"]) == 60
