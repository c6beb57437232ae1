"""Every HTTP exchange of a task is lost once, on its way there or on its way back: it is done once all the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import Exchange, Fault, FaultProxy, cdm_through

from blocks_worker.client.client import TaskClient
from blocks_worker.config import state_dir
from blocks_worker.runtime.instance import start_agent_instance
from blocks_worker.runtime.options import AgentInstanceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks_worker.client.session import TaskSession
    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext

LOSSES = [Fault.DROP_REQUEST, Fault.DROP_REPLY]
API = "/api/v1/"


class World:
    """A hub, a proxy before it, and the runs of its one agent."""

    def __init__(self, hub: Caller, proxy: FaultProxy, folder: Path) -> None:
        self.hub = hub
        self.proxy = proxy
        self.runs: list[str] = []
        self.cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), folder, hub=proxy)

    def handler(self, task: StartTaskMessage, ctx: TaskContext) -> str:
        """Note the run; a text that says so waits for its cancel."""
        self.runs.append(task.task_id)
        ctx.report_status("at it")
        if task.text() == "wait":
            ctx.wait(60)
            ctx.check_cancelled()
        return f"done: {task.text()}"

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run the agent, through the proxy."""
        options = AgentInstanceOptions(
            agent_name="echo", handler=self.handler, cdm_url=self.cdm, embedded_hub=False, heartbeat_ms=1000
        )
        with start_agent_instance(options) as instance:
            instance.wait_ready(30)
            yield

    def client(self) -> TaskClient:
        """Open a client, through the proxy."""
        return TaskClient.create("free", cdm_url=self.cdm, api_key=self.hub.key, timeout=20)

    def check(self, session: TaskSession, terminals: list[str], state: str = "completed") -> None:
        """Check that the task ran once and ended once, in the session and in the ledger."""
        wait_until(lambda: session.is_closed, what="callbacks told")
        token = self.hub.consumer()["accessToken"]
        stored = self.hub.ask("GET", f"/api/v1/tasks/{session.task_id}/events", bearer=token).json["events"]
        listed = self.hub.ask("GET", "/api/v1/tasks", bearer=token).json["tasks"]

        assert self.runs == [session.task_id]
        assert terminals == [state]
        assert [event["state"] for event in stored if event["type"] == "terminal"] == [state]
        assert [event.seq for event in session.list_events()] == [event["seq"] for event in stored]
        assert [row["taskId"] for row in listed] == [session.task_id]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Run a hub and a proxy."""
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as proxy:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        yield World(hub, proxy, tmp_path)


def whole_run(world: World) -> TaskSession:
    """Go from connect to terminal with one task; return its session, after every check."""
    terminals: list[str] = []
    with world.worker(), world.client() as client, client.send_message("echo", "hi") as session:
        session.on_terminal(lambda event: terminals.append(str(event.state)))
        assert session.text(30) == "done: hi"
        world.check(session, terminals)
        return session


def at(number: int) -> Callable[[Exchange], bool]:
    """Return what fits the exchange of this number."""
    return lambda exchange: exchange.number == number


def to(path: str) -> Callable[[Exchange], bool]:
    """Return what fits exchanges with this address."""
    return lambda exchange: exchange.path == API + path


#: More than a run has: numbers beyond its last exchange lose what happens at the end.
EXCHANGES = 12


def test_a_run_without_losses(world: World) -> None:
    """The reference: the run has fewer exchanges than are lost one by one below, and those that matter."""
    whole_run(world)

    paths = {exchange.path.removeprefix(API) for exchange in world.proxy.exchanges}
    assert {"auth/agent/connect", "auth/agent/consumer-token", "heartbeats", "tasks", "claims", "reports"} <= paths
    # Where the machine is slow there are more heartbeats, one like the other.
    beats = world.proxy.count(f"{API}heartbeats")
    assert len(world.proxy.exchanges) - max(0, beats - 3) <= EXCHANGES


@pytest.mark.parametrize("fault", LOSSES)
@pytest.mark.parametrize("number", range(EXCHANGES))
def test_each_exchange_is_lost_once(world: World, number: int, fault: Fault) -> None:
    """[R-21] [A-16] Whichever exchange is lost: one run, one terminal, all events, no second task. [A1, A2]"""
    world.proxy.fail(fault, at(number))

    session = whole_run(world)

    assert not session.idempotent


@pytest.mark.parametrize("fault", LOSSES)
@pytest.mark.parametrize("path", ["auth/agent/connect", "heartbeats", "tasks", "claims", "reports"])
def test_each_exchange_is_lost_three_times(world: World, path: str, fault: Fault) -> None:
    """[R-21] The connection's own repetition is lost too: whoever asked asks again, or learns of it by heartbeat."""
    world.proxy.fail(fault, to(path), times=3)

    whole_run(world)

    assert sum(exchange.fault is fault for exchange in world.proxy.exchanges) >= 2


@pytest.mark.parametrize("fault", LOSSES)
def test_a_cancel_is_lost(world: World, fault: Fault) -> None:
    """A cancel whose reply is lost is asked again, and the handler is told once. [A1, A2]"""
    terminals: list[str] = []
    asked: list[str] = []
    with world.worker(), world.client() as client, client.send_message("echo", "wait") as session:
        session.on_terminal(lambda event: terminals.append(str(event.state)))
        session.on_cancel_requested(lambda event: asked.append(str(event.reason)))
        wait_until(lambda: world.runs, what="the run")
        world.proxy.fail(fault, to(f"tasks/{session.task_id}/cancel"), times=3)

        session.cancel("enough")
        assert session.wait_for_terminal(30).reason == "enough"
        world.check(session, terminals, "canceled")

    assert asked == ["enough"]
    assert world.proxy.count(f"{API}tasks/{session.task_id}/cancel") == 4


@pytest.mark.parametrize("fault", LOSSES)
def test_an_attach_is_lost(world: World, fault: Fault) -> None:
    """Joining a task that runs survives the loss of each of its exchanges."""
    with world.worker(), world.client() as sender, world.client() as other:
        task_id = sender.send_message("echo", "wait").task_id
        wait_until(lambda: world.runs, what="the run")
        world.proxy.fail(fault, to("events"), times=3)
        session = other.connect(task_id)
        terminals: list[str] = []
        session.on_terminal(lambda event: terminals.append(str(event.state)))
        other.cancel_task(task_id)

        session.wait_for_terminal(30)
        world.check(session, terminals, "canceled")


@pytest.mark.long
def test_a_submit_that_nobody_answers_is_asked_again(world: World) -> None:
    """[R-21] A hub that is silent for a while gets the same submit once more, before the timeout is over."""
    with world.worker(), world.client() as client:
        world.proxy.fail(Fault.HANG, to("tasks"))
        session = client.send_message("echo", "hi")
        assert session.text(30) == "done: hi"

    assert world.proxy.count(f"{API}tasks") == 2
    assert world.runs == [session.task_id]
