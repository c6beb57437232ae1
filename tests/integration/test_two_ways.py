"""One incarnation with more than one way to its hub: two links, or a link and HTTP, in the middle of a task."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun, Caller, running_hub
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from blocks_worker import TaskClient, start_agent_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.client import ClientConnection

    #: What came back: a status and a body.
    Way = Callable[[str, Any], tuple[int, Any]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run one hub for all."""
    with running_hub(tmp_path_factory.mktemp("hub"), transport="hublink") as caller:
        yield caller


def over_http(hub: Caller, token: str) -> Way:
    """Ask by a request."""

    def ask(path: str, body: Any) -> tuple[int, Any]:
        answered = hub.ask("POST", path, body, bearer=token)
        return answered.status, answered.json

    return ask


def over_link(socket: ClientConnection, token: str) -> Way:
    """Ask by a frame of a link, and wait for its answer."""
    numbers = iter(range(1, 10_000))
    socket.send(json.dumps([["token", 1, token]]).encode())

    def ask(path: str, body: Any) -> tuple[int, Any]:
        number = next(numbers)
        socket.send(json.dumps([["ask", number, "POST", path, 1, body]]).encode())
        while True:
            for operation in json.loads(socket.recv(10)):
                if operation[:2] == ["answer", number]:
                    return operation[2], operation[3]

    return ask


def linked(hub: Caller, token: str) -> Any:
    """Open a link."""
    address = hub.address.url.replace("http", "ws") + "/api/v1/link"
    return connect(address, additional_headers={"Authorization": f"Bearer {token}"}, compression=None, proxy=None)


def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait until the hub closes a link; return what it says."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(20)
    return socket.close_code, socket.close_reason


def begun(hub: Caller, agent: str) -> tuple[str, str, dict[str, Any]]:
    """Connect an instance and have it claim a task; return its token, a consumer's, and what proves the run."""
    instance, consumer = hub.connect(agent)["accessToken"], hub.consumer()["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    return instance, consumer, BareRun(hub, instance, hub.submit(consumer, agent))._turn


def event(n: int) -> dict[str, Any]:
    """Return an event of a run."""
    return {"n": n, "body": {"type": "progress", "message": str(n)}}


def stored(hub: Caller, consumer: str, task: str) -> list[int]:
    """Return the numbers of the events that the ledger has, in its order."""
    numbers: list[int] = []
    after = 0
    while True:
        page = hub.ask("GET", f"/api/v1/tasks/{task}/events?after={after}", bearer=consumer).json["events"]
        if not page:
            return numbers
        numbers += [one["n"] for one in page if "n" in one]
        after = page[-1]["seq"]


def test_a_run_that_changes_its_way_at_each_event(hub: Caller, request: pytest.FixtureRequest) -> None:
    """Told in turns by link and HTTP it is one flow: in order, once; a hole is refused and said again. [J10]"""
    instance, consumer, turn = begun(hub, "switching")
    most = 1000 if request.config.getoption("--long") else 200
    with linked(hub, instance) as socket:
        ways = [over_link(socket, instance), over_http(hub, instance)]
        for n in range(1, most + 1):
            way, other = ways[n % 2], ways[1 - n % 2]
            if n % 100 == 0:
                hole, told = other("/api/v1/reports", {**turn, "events": [event(n + 1)]})
                assert (hole, told["expectedN"]) == (422, n)
            assert way("/api/v1/reports", {**turn, "events": [event(n)]})[0] == 200
            if n % 50 == 0:
                # Its answer was lost, and it is repeated by the other way.
                assert other("/api/v1/reports", {**turn, "events": [event(n)]})[0] == 200
        end = {**turn, "events": [], "outcome": {"state": "completed", "lastN": most, "digest": "d" * 64}}
        assert [way("/api/v1/reports", end)[0] for way in ways] == [200, 200]

    assert stored(hub, consumer, turn["taskId"]) == list(range(1, most + 1))


def test_two_links_of_one_incarnation(hub: Caller) -> None:
    """The newer one counts: the older is told so and closed, its frames are unread, and the run goes on. [J5]"""
    instance, consumer, turn = begun(hub, "doubled")
    claim = {"taskId": turn["taskId"], "epoch": turn["epoch"]}
    held = {"free": 0, "held": [{"taskId": turn["taskId"], "epoch": turn["epoch"]}]}
    with linked(hub, instance) as older_socket:
        older = over_link(older_socket, instance)
        assert older("/api/v1/reports", {**turn, "events": [event(1)]})[0] == 200
        with linked(hub, instance) as newer_socket:
            newer = over_link(newer_socket, instance)
            status, beat = newer("/api/v1/heartbeats", held)
            with suppress(ConnectionClosed):
                older_socket.send(json.dumps([["ask", 9, "POST", "/api/v1/reports", 1, {**turn, "release": True}]]))
            told = closed(older_socket)
            lease = newer("/api/v1/claims", claim)[1]["lease"]
            end = {**turn, "events": [event(2)], "outcome": {"state": "completed", "lastN": 2, "digest": "d" * 64}}
            done = newer("/api/v1/reports", end)[0]

    assert told == (4409, "this incarnation has opened a newer link")
    assert (status, beat["fenced"], lease, done) == (200, [], turn["lease"], 200)
    assert stored(hub, consumer, turn["taskId"]) == [1, 2]
    assert hub.ask("GET", f"/api/v1/tasks/{turn['taskId']}", bearer=consumer).json["attempt"] == 1


def test_links_of_others_stay(hub: Caller) -> None:
    """A consumer has as many links as he likes, and an incarnation takes nobody else's place. [J5]"""
    one, other = (hub.connect(name)["accessToken"] for name in ("first", "second"))
    consumer = hub.consumer()["accessToken"]
    with ExitStack() as stack:
        tokens = [one, other, consumer, consumer]
        ways = [over_link(stack.enter_context(linked(hub, token)), token) for token in tokens]
        beats = [way("/api/v1/heartbeats", {"free": 1})[0] for way in ways]

    assert beats == [200, 200, 401, 401]


def test_a_second_link_while_tasks_run(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose link is taken loses no run and no result, and takes it back when it hears nothing. [J5]"""
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    monkeypatch.setenv("BLOCKS_CDM_URL", hub.address.url + "/api/v1/cdm")
    runs: list[str] = []
    going_on = threading.Event()

    def handler(task: Any) -> str:
        runs.append(task.task_id)
        going_on.wait(30)
        return f"done: {task.text()}"

    options = {"agent_name": "taken", "handler": handler, "concurrency": 4, "heartbeat_ms": 300}
    with start_agent_instance(options) as agent, TaskClient.create("free") as client:
        agent.wait_ready(20)
        sessions = [client.send_message("taken", str(number)) for number in range(3)]
        wait_until(lambda: len(runs) == 3, 20, "the runs")
        with linked(hub, agent.auth.get()) as socket:
            sessions.append(client.send_message("taken", "3"))
            wait_until(lambda: len(runs) == 4, 20, "one more, found by heartbeat or its own link")
            going_on.set()
            told = [session.text(20) for session in sessions]
            code, _ = closed(socket)
        attempts = [row["attempt"] for row in rows(hub, sessions)]

    assert code == 4409, "the worker took its link back"
    assert told == [f"done: {number}" for number in range(4)]
    assert (len(runs), attempts) == (4, [1] * 4)


def rows(hub: Caller, sessions: list[Any]) -> list[dict[str, Any]]:
    """Return how tasks stand."""
    token = hub.consumer()["accessToken"]
    return [hub.ask("GET", f"/api/v1/tasks/{one.task_id}", bearer=token).json for one in sessions]


def test_a_link_of_an_incarnation_that_is_over(hub: Caller) -> None:
    """The link of the process before says nothing any more: each of its words is refused, whatever it has open. [J5]"""
    instance, consumer, turn = begun(hub, "older")
    with linked(hub, instance) as socket:
        way = over_link(socket, instance)
        assert way("/api/v1/reports", {**turn, "events": [event(1)]})[0] == 200
        hub.connect("older", incarnation="older-life-2")
        late = way("/api/v1/reports", {**turn, "events": [event(2)]})[0]
        beat = way("/api/v1/heartbeats", {"free": 1})

    assert (late, beat[0], beat[1]["code"]) == (409, 410, "Superseded")
    assert stored(hub, consumer, turn["taskId"]) == [1]
