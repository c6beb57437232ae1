"""Every message of a scenario, one at a time: lost before or after it took effect, doubled, or late.

The scenario is two tasks: one that does a step, asks, is answered, paused and resumed, and one that is cancelled. What
goes wrong with one of its messages changes nothing that anybody sees of it.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_frames import FrameProxy
from support_hub import Caller
from support_proxy import Fault, FaultProxy, cdm_through

from blocks_worker import TaskClient, start_agent_instance
from blocks_worker.concurrency import Deadline
from blocks_worker.config import HubConfig
from blocks_worker.hub.hub import Hub
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support_frames import Blow, Way

    from blocks_worker.client.session import TaskSession
    from blocks_worker.hub.network.faults import Fault as NetworkFault
    from blocks_worker.hub.network.faults import Faults

#: Fewer messages than these and the scenario is not what it was.
LEAST = {"worker": 9, "client": 6, "control": 5, "session": 7}
#: A granted offer that nobody acknowledged is taken back, though its run may have begun.
MOST_RUNS = 2
#: The same for the frames of one side of a link.
FRAMES = 5
#: Of so many frames in a row one is doubled, or late.
APART = 2
#: What is said of the two tasks in the end.
PAUSED = ["running", "question", "answered", "paused", "resumed", "artifact", "completed"]
CANCELLED = ["running", "cancel_requested", "artifact", "canceled"]


@dataclass
class Case:
    """One run of the scenario: its sessions and what they were told."""

    sessions: list[TaskSession] = field(default_factory=list)
    terminals: list[str] = field(default_factory=list)


class World:
    """A hub, a worker and a client that speak to it through proxies of their own."""

    def __init__(self, hub: Hub, caller: Caller, at_worker: Any, at_client: Any) -> None:
        self.hub = hub
        self.caller = caller
        self.proxies = {"worker": at_worker, "client": at_client}
        self.token = str(caller.consumer()["accessToken"])
        self.runs: list[str] = []
        #: Who did a step, what it was to each run, and what each run was answered.
        self.steps: list[str] = []
        self.stepped: list[tuple[str, int]] = []
        self.heard: list[tuple[str, str]] = []
        #: The tasks that somebody asked for.
        self.known: set[str] = set()
        self.client: TaskClient

    def handler(self, task: Any, ctx: Any) -> str:
        """Do a step, ask, and wait for a pause and its end; or wait for a cancel, as the text says."""
        self.runs.append(task.task_id)
        if task.text() == "pause":
            self.stepped.append((task.task_id, ctx.step("one", lambda: self._step(task.task_id))))
            self.heard.append((task.task_id, ctx.ask("Which?", ask_id="which")))
            # What its worker had begun when the link broke is taken back, and begun again: that run does not wait.
            while self.runs.count(task.task_id) == 1 and not ctx.wait_while_paused():
                ctx.wait(0.005)
                ctx.check_cancelled()
        if task.text() == "cancel":
            ctx.wait(30)
        return f"done: {task.text()}"

    def _step(self, task_id: str) -> int:
        """Do a step, each time with another value."""
        self.steps.append(task_id)
        return len(self.steps)

    def play(self, act: Callable[[Faults], Any]) -> Any:
        """Do it to the faults of the network."""

        async def done(faults: Faults) -> Any:
            return act(faults)

        return self.hub.play(done)

    def row(self, session: TaskSession) -> dict[str, Any]:
        """Return how a task stands, asked beside the proxies."""
        return dict(self.caller.ask("GET", f"/api/v1/tasks/{session.task_id}", bearer=self.token).json)

    def events(self, session: TaskSession) -> list[dict[str, Any]]:
        """Return what is stored of a task, asked beside the proxies."""
        path = f"/api/v1/tasks/{session.task_id}/events"
        return list(self.caller.ask("GET", path, bearer=self.token).json["events"])

    def is_at(self, session: TaskSession, state: str) -> None:
        """Wait until the ledger says so of a task."""
        wait_until(lambda: self.row(session)["state"] == state, 60, f"{session.task_id} is {state}")

    def scenario(self) -> Case:
        """Play it once, up to its ends in the ledger."""
        case = Case()
        one = self._send(case, "pause")
        self.is_at(one, "input-required")
        self.client.answer_task(one.task_id, "blue", "which")
        wait_until(lambda: self.row(one)["state"] in {"running", "completed"}, 60, "the answer")
        self.client.pause_task(one.task_id)
        wait_until(lambda: self.row(one)["state"] in {"paused", "completed"}, 60, "the pause")
        self.client.resume_task(one.task_id)
        two = self._send(case, "cancel")
        wait_until(lambda: self.events(two), 60, "the word that it runs")
        two.cancel("enough")
        self.is_at(one, "completed")
        self.is_at(two, "canceled")
        return case

    def _send(self, case: Case, text: str) -> TaskSession:
        session = self.client.send_message("echo", text)
        session.on_terminal(lambda event: case.terminals.append(str(event.state)))
        case.sessions.append(session)
        self.known.add(session.task_id)
        return session

    def check(self, case: Case) -> None:
        """Check that each task ran once, and that its session showed all that the ledger has, once, in order."""
        self.know_ends(case)
        tasks = [session.task_id for session in case.sessions]
        assert [self.runs.count(task) for task in tasks] == [1, 1]
        assert [self.steps.count(task) for task in tasks] == [1, 0]
        for session, said in zip(case.sessions, (PAUSED, CANCELLED), strict=True):
            stored = self.events(session)
            assert [each.get("status") or each.get("state") or each["type"] for each in stored] == said
            shown = session.list_events()
            # A word of the hub itself may be shown before what the worker said earlier, and was lost.
            assert {event.seq for event in shown} == {each["seq"] for each in stored}
            assert len(shown) == len({event.seq for event in shown})
            assert session.idempotent is False
        self.check_ends(case)

    def know_ends(self, case: Case) -> None:
        """Wait until the sessions know how their tasks ended."""
        for _ in range(20):
            # What was lost last is missed with the next message; else it takes the poll of the session.
            if all(session.is_closed for session in case.sessions):
                break
            self.known.add(self.client.run("echo", "another", 20).task_id)
        wait_until(lambda: all(session.is_closed for session in case.sessions), 60, "the sessions know their ends")

    def check_ends(self, case: Case) -> None:
        """Check that each task ended once, and that what its last run said is shown whole and in order."""
        self.know_ends(case)
        assert sorted(case.terminals) == ["canceled", "completed"]
        for session in case.sessions:
            stored, shown = self.events(session), session.list_events()
            epoch = stored[-1]["epoch"]
            said = [each["n"] for each in stored if each.get("n") and each["epoch"] == epoch]
            assert said == [*range(1, len(said) + 1)]
            assert [event.n for event in shown if event.n and event.epoch == epoch] == said
            assert [each["type"] for each in stored].count("terminal") == 1
            assert (shown[-1].type, shown[-1].seq) == ("terminal", stored[-1]["seq"])
            # What was given to a worker that never heard of it is cancelled without a run.
            least = 0 if shown[-1].state == "canceled" else 1
            assert least <= self.runs.count(session.task_id) <= MOST_RUNS
        task = case.sessions[0].task_id
        path = f"/api/v1/tasks/{task}/steps"
        (step,) = self.caller.ask("GET", path, bearer=self.token).json["steps"]
        assert {value for of, value in self.stepped if of == task} == {step["value"]}
        assert {value for of, value in self.heard if of == task} == {"blue"}
        listed = self.caller.ask("GET", "/api/v1/tasks?limit=10", bearer=self.token).json["tasks"]
        assert {task["taskId"] for task in listed} <= self.known
        assert {task["state"] for task in listed} <= {"completed", "canceled"}


@contextmanager
def place(
    folders: pytest.TempPathFactory, proxy: Callable[[str], FaultProxy | FrameProxy], transport: str
) -> Iterator[World]:
    """Run hub, worker and client, with a proxy each before the hub."""
    folder, documents = folders.mktemp("state"), folders.mktemp("cdm")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("BLOCKS_STATE_DIR", str(folder))
        patch.setenv("BLOCKS_TRANSPORT", transport)
        hub = Hub(HubConfig(state_dir=folder, port=0, reserve_bytes=1 << 20, transport=transport))
        address = hub.start()
        stack.callback(lambda: hub.stop(Deadline(20)))
        caller = Caller(address, StateFolder(folder).local_key())
        stack.callback(caller.pool.clear)
        one, two = (stack.enter_context(proxy(address.url)) for _ in range(2))
        made = World(hub, caller, one, two)
        patch.setenv("BLOCKS_API_KEY", caller.key)
        options = {
            "agent_name": "echo",
            "handler": made.handler,
            "concurrency": 4,
            "heartbeat_ms": 1000,
            "drain_timeout": 0,
        }
        document = caller.ask("GET", "/api/v1/cdm")
        cdm = [cdm_through(document, documents, hub=each) for each in (one, two)]  # type: ignore[arg-type]  # its address
        agent = stack.enter_context(start_agent_instance({**options, "embedded_hub": False, "cdm_url": cdm[0]}))
        agent.wait_ready(30)
        made.client = stack.enter_context(TaskClient.create("free", cdm_url=cdm[1], api_key=caller.key, timeout=20))
        made.known.add(made.client.run("echo", "first", 20).task_id)
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """Give one that speaks over HTTP; what is late is ten seconds late where there is time."""
    late = 10.0 if request.config.getoption("--long") else 0.3
    with place(tmp_path_factory, lambda url: FaultProxy(url, late=late), "pubnub") as made:
        yield made


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give one that speaks over links."""
    with place(tmp_path_factory, FrameProxy, "hublink") as made:
        yield made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_REPLY, Fault.DOUBLE, Fault.LATE])
@pytest.mark.parametrize("who", ["worker", "client"])
def test_each_request(world: World, who: str, fault: Fault) -> None:
    """Whatever becomes of a request: each task runs once, ends once, and is shown whole. [A1, A2, B9]"""
    proxy = world.proxies[who]
    for number in itertools.count():
        with proxy._lock:  # a heartbeat may come at any time
            first = len(proxy.exchanges)
            proxy.fail(fault, lambda exchange, place=first + number: exchange.number == place)  # type: ignore[misc]
        case = world.scenario()
        if len(proxy.exchanges) <= first + number:
            proxy.heal()
            break
        struck = proxy.exchanges[first + number]
        wait_until(lambda: struck.status or fault is Fault.DROP_REQUEST, 60, "what was late came")  # noqa: B023 - at once
        assert struck.fault is fault
        world.check(case)

    assert number >= LEAST[who], "the scenario has become shorter"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("who", "channel"), [("control", r"^agent\..*control$"), ("session", r"^session\.")])
def test_each_word_of_the_hub(world: World, who: str, channel: str) -> None:
    """Each message of the hub, lost, doubled, overtaken: nothing is lost, done twice or shown twice. [A6] [A7] [A8]"""
    cases: list[Case] = []
    for fault in ("swallow", "duplicate", "reorder"):
        for number in itertools.count():
            play = partial(_add, fault=fault, channel=channel, after=number)
            played: NetworkFault = world.play(play)
            cases.append(world.scenario())
            struck = played.hits
            world.play(lambda faults: faults.clear())
            if not struck:
                break
        assert number >= LEAST[who], "the scenario has become shorter"

    # A word that was lost last is found by the poll of its session: all wait for theirs together.
    for case in cases:
        world.check(case)


def _add(faults: Faults, *, fault: str, channel: str, after: int) -> NetworkFault:
    return faults.add(fault, channel, after=after)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("blow", ["cut before", "cut after"])
@pytest.mark.parametrize("way", ["to hub", "from hub"])
@pytest.mark.parametrize("who", ["worker", "client"])
def test_each_frame_of_a_link(linked: World, who: str, way: Way, blow: Blow) -> None:
    """A link cut before or after each frame: one end, the last run whole, at most one run more. [A1, A2, J19]"""
    proxy = linked.proxies[who]
    for number in itertools.count():
        strikes = proxy.strikes
        proxy.strike(way, number, blow)
        case = linked.scenario()
        struck = proxy.strikes > strikes
        proxy.relent()
        linked.check_ends(case)
        if not struck:
            break

    assert number >= FRAMES, "the scenario has become shorter"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("blow", ["doubled", "late"])
@pytest.mark.parametrize("way", ["to hub", "from hub"])
@pytest.mark.parametrize("who", ["worker", "client"])
def test_each_frame_again_or_late(
    linked: World, request: pytest.FixtureRequest, who: str, way: Way, blow: Blow
) -> None:
    """A frame that comes twice, or late with all behind it, changes nothing; of every few one, or one alone. [A7]"""
    proxy = linked.proxies[who]
    alone = bool(request.config.getoption("--long"))
    first = proxy.strikes
    for number in range(3 * FRAMES if alone else APART):
        proxy.strike(way, number, blow, every=None if alone else APART)
        case = linked.scenario()
        proxy.relent()
        linked.check_ends(case)

    assert proxy.strikes - first >= FRAMES, "the scenario has become shorter"
