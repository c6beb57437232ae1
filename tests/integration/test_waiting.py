"""Tasks and time: when they may begin, and when they end at the latest. Real hub, worker and client."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import Caller, running_hub

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.cli.main import blocks
from blocks_worker.concurrency import Clock
from blocks_worker.config import state_dir
from blocks_worker.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext


class Noting:
    """A handler that notes when it was called with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, task: StartTaskMessage) -> str:
        """Note it."""
        self.calls.append((task.text(), Clock().wall_ms()))
        return "done"

    @property
    def texts(self) -> list[str]:
        """What it was called with, in order."""
        return [text for text, _ in self.calls]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Run a hub in the state folder of this test, far from the scripts of a clone."""
    monkeypatch.chdir(tmp_path)
    with running_hub(state_dir()) as caller:
        monkeypatch.setenv("BLOCKS_API_KEY", caller.key)
        yield caller


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Create a client of the local hub."""
    with TaskClient.create("free") as made:
        yield made


def serve(handler: Any, **options: Any) -> Any:
    """Serve the agent "noting"."""
    instance = start_agent_instance(AgentInstanceOptions(agent_name="noting", handler=handler, **options))
    instance.wait_ready(30)
    return instance


# ------------------------------------------------------------------------------------------------ delay
def test_a_task_begins_when_its_time_has_come(client: TaskClient) -> None:
    """[J23] Seconds from now or a datetime: one that came later goes first, and the handler is not called before."""
    handler = Noting()
    with serve(handler):
        ready = datetime.now(timezone.utc) + timedelta(seconds=6)
        later = client.send_message("noting", "later", not_before=ready)
        (soon,) = client.send_many([{"agent_name": "noting", "request_parts": "soon", "not_before": 2.5}])
        waits = client.get_task(later.task_id)
        client.run("noting", "now")
        assert (soon.text(20), later.text(20)) == ("done", "done")

    assert (waits.state, waits.extra["waitsFor"]) == ("pending", "delay")
    assert handler.texts == ["now", "soon", "later"]
    # The hub's clock was set by this machine's: it may be a step apart.
    assert handler.calls[2][1] >= ready.timestamp() * 1000 - 50
    assert later.waits_for is None


def test_a_delay_outlives_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """[J23] [R-12] What waits for its time when the hub ends is run after the hub is back, not before its time."""
    handler = Noting()
    with running_hub(state_dir()) as hub:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        port = int(hub.address.url.rpartition(":")[2])
        cdm = f"{hub.address.url}/api/v1/cdm"
        instance = serve(handler, embedded_hub=False, heartbeat_ms=1000, cdm_url=cdm)
        client = TaskClient.create("free", cdm_url=cdm, api_key=hub.key)
        session = client.send_message("noting", "x", not_before=3)
        info = client.get_task(session.task_id)
    with client, instance, running_hub(state_dir(), port=port):
        assert session.text(60) == "done"
    assert info.extra["readyAt"] == info.created_time + 3000
    assert handler.calls[0][1] >= info.extra["readyAt"] - 50


def test_a_delay_that_makes_no_sense_is_refused(hub: Caller, client: TaskClient) -> None:
    """[R-48] Before anything is sent, where the client can know it; else by the hub, with what to change."""
    hub.connect("idle")
    with pytest.raises(ValueError, match="no zone"):
        client.send_message("idle", "x", not_before=datetime(2030, 1, 1))  # noqa: DTZ001 - this is what is refused
    with pytest.raises(RpcError, match="the deadline comes before the task may begin"):
        client.send_message("idle", "x", not_before=60, deadline=Clock().wall_ms() + 1000)


def test_a_delay_at_the_command_line(hub: Caller, client: TaskClient) -> None:
    """[R-64] A delay longer than the wait is not waited for: the id is told, and how to follow the task."""
    hub.connect("idle")
    sent = CliRunner().invoke(blocks, ["send", "idle", "x", "--delay", "2h"])
    (task,) = client.list_tasks().tasks

    assert sent.exit_code == 0
    assert sent.stdout == f"task {task.task_id} begins in 7200 s; 'blocks watch {task.task_id}' shows how it goes\n"
    assert task.extra["readyAt"] == task.created_time + 7_200_000
    wrong = CliRunner().invoke(blocks, ["send", "idle", "x", "--delay", "soon"])
    assert (wrong.exit_code, "write 90, 90s, 30m, 2h or 7d" in wrong.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------ limits of time
def test_a_deadline_is_seen_by_all(client: TaskClient) -> None:
    """[R-58] [R-26] The handler, what it asks for and the row have it; at its end the task fails and says by which."""
    left: list[float | None] = []
    asked: list[str] = []

    def handler(task: StartTaskMessage, ctx: TaskContext) -> str:
        left.append(ctx.remaining())
        if task.text() == "above":
            child = ctx.task_client.send_message("noting", "below")
            asked.append(child.task_id)
            child.wait_for_terminal(20)
        ctx.wait(20)
        return "too late"

    with serve(handler, concurrency=2):
        ends = datetime.now(timezone.utc) + timedelta(seconds=5)
        session = client.send_message("noting", "above", deadline=ends)
        terminal = session.wait_for_terminal(20)
        below = client.get_task(asked[0])

    assert (terminal.state, terminal.error_code, terminal.reason) == ("failed", "timeout", "deadline")
    assert client.get_task(session.task_id).extra["deadline"] == round(ends.timestamp() * 1000)
    assert 0 <= round(ends.timestamp() * 1000) - below.extra["deadline"] < 500
    assert below.state in {"failed", "canceled"}
    assert all(each is not None and 0 < each <= 5 for each in left)


def test_limits_at_the_command_line(hub: Caller, client: TaskClient) -> None:
    """[R-64] What nobody begins in time fails, and which limit it was is said; only the wait's end is a dead letter."""
    hub.connect("idle")
    waited = CliRunner().invoke(blocks, ["send", "idle", "x", "--queue-ttl", "0.2s"])
    over = CliRunner().invoke(blocks, ["send", "idle", "x", "--deadline", "4s"])

    assert (waited.exit_code, over.exit_code) == (1, 1)
    assert [task.extra["reason"] for task in client.list_tasks().tasks] == ["deadline", "queue_ttl"]
    assert [task.extra["deadReason"] for task in client.list_tasks(dead=True).tasks] == ["queue_ttl"]
    assert "timeout: over its queue_ttl" in waited.stderr
    assert "timeout: over its deadline" in over.stderr


# ------------------------------------------------------------------------------------------------ priority
def test_urgent_tasks_go_first(hub: Caller, client: TaskClient) -> None:
    """[R-64] Whoever asks says how urgent it is, at the command line too; the row tells it, the queue obeys."""
    hub.connect("noting")
    sessions = client.send_many(
        [{"agent_name": "noting", "request_parts": f"priority {number}", "priority": number} for number in (0, 5, 9, 2)]
    )
    CliRunner().invoke(blocks, ["send", "noting", "typed", "--priority", "7", "--timeout", "0"])
    handler = Noting()
    with serve(handler):
        assert [session.text(30) for session in sessions] == ["done"] * 4
        assert wait_until(lambda: len(handler.calls) == 5, 20)

    assert handler.texts == ["priority 9", "typed", "priority 5", "priority 2", "priority 0"]
    assert client.get_task(sessions[2].task_id).extra["priority"] == 9


# ------------------------------------------------------------------------------------------------ limits of an agent
def test_a_limit_holds_over_all_instances(hub: Caller, client: TaskClient) -> None:
    """[J24] Two instances with room for six run two at once, as the card says; the others say what they wait for."""
    lock, running, most, go = threading.Lock(), [0], [0], threading.Event()

    def handler(_task: StartTaskMessage, ctx: TaskContext) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        go.wait(30)
        ctx.wait(0.2)
        with lock:
            running[0] -= 1

    card = {
        "identity": {"agentName": "noting", "displayName": "Noting", "description": "Notes.", "version": "1.0.0"},
        "capabilities": {"taskKinds": ["request"]},
        "runtime": {"handler": "handler", "concurrencyLimit": 2},
        "io": {"inputs": [], "outputs": []},
    }
    with (
        serve(handler, concurrency=3, instance_id="one", card=card),
        serve(handler, concurrency=3, instance_id="two", card=card),
    ):
        sessions = client.send_many([{"agent_name": "noting"}] * 6)
        waiting = {session.waits_for for session in sessions}
        go.set()
        for session in sessions:
            assert session.wait_for_terminal(30).state == "completed"

    assert waiting == {None, "limit"}
    assert most == [2]
    token = hub.consumer()["accessToken"]
    row = hub.ask("GET", "/api/v1/registry/agents?agentName=noting", bearer=token).json["agent"]
    assert row["scaling"]["concurrencyLimit"] == 2
