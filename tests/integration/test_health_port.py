"""The health port of a worker, over HTTP: two agents, their hub and its network, one port."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import Caller
from support_metrics import Scraped, page, scrape

from blocks_worker.cli.health_pages import HealthPages
from blocks_worker.cli.health_port import MOST_REQUESTS, HealthPort
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import ConfigurationError
from blocks_worker.state import LocalHub
from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.runtime.instance import AgentInstance


@dataclass
class Watched:
    """One agent, as the health port knows it."""

    agent_name: str
    instance: AgentInstance | None


class Stand:
    """A hub, the agents `greet` and `hold`, and the port that tells of them."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.stack = LocalStack({"greet": self.greet, "hold": self.hold})
        self.watched: list[Watched] = []
        self.url = ""

    def greet(self, task: Any) -> str:
        """Answer, or fail when told to."""
        if task.text() == "fail":
            raise ValueError("as you wish")
        return "hello"

    def hold(self, _task: Any) -> str:
        """Wait to be let go."""
        self.go.wait(30)
        return "held"

    def ready(self) -> dict[str, dict[str, bool]]:
        """Return the conditions of each agent."""
        agents = page(f"{self.url}/readyz").json["agents"]
        return {each["agent"]: {one["name"]: one["ok"] for one in each["conditions"]} for each in agents}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """Give all tests of this file one hub and one port."""
    with ExitStack() as opened:
        stand = Stand()
        opened.enter_context(stand.stack)
        opened.callback(stand.go.set)
        stand.watched += [Watched(name, agent) for name, agent in stand.stack.agents.items()]
        stand.url = opened.enter_context(HealthPort(0, HealthPages(stand.watched))).url
        yield stand


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/livez?full=1"])
def test_the_process_answers(stand: Stand, path: str) -> None:
    """Who asks whether the process lives is answered. [R-54]"""
    assert page(stand.url + path).json == {"status": "ok"}


def test_ready_is_told_by_its_conditions(stand: Stand) -> None:
    """An instance that serves says so, one entry a condition, for each agent. [R-54]"""
    answered = page(f"{stand.url}/readyz")

    assert (answered.status, answered.json["status"]) == (200, "ready")
    met = {"registered": True, "listening": True, "hub_heard": True, "serving": True}
    met |= {"able": True, "accepted": True}
    assert stand.ready() == {"greet": met, "hold": met}


def test_a_lost_network_is_not_ready(stand: Stand) -> None:
    """Without the network the worker says that it does not listen, and is ready again when it is back. [R-54]"""
    stand.stack.cut_network()
    try:
        wait_until(lambda: not stand.ready()["greet"]["listening"], 20, "the loss")
        answered = page(f"{stand.url}/readyz")
    finally:
        stand.stack.restore_network()

    assert (answered.status, answered.json["status"]) == (503, "not ready")
    wait_until(lambda: page(f"{stand.url}/readyz").status == 200, 20, "the recovery")


def test_the_worker_page_tells_what_runs(stand: Stand) -> None:
    """`/worker` has agents, instances, what runs, slots and versions. [R-54]"""
    session = stand.stack.client.send_message(agent_name="hold", request_parts=[])
    try:
        busy = wait_until(lambda: [each for each in shown(stand) if each["running"] == 1], what="the run")
    finally:
        stand.go.set()
    session.wait_for_terminal(timeout=10)

    assert [(each["agent"], each["state"], each["slots"], each["hub"]) for each in busy] == [
        ("hold", "full", 1, stand.stack.url)
    ]
    assert page(f"{stand.url}/worker").json["version"]


def shown(stand: Stand) -> list[dict[str, Any]]:
    """Return the agents of the page."""
    return list(page(f"{stand.url}/worker").json["agents"])


def test_runs_are_counted_by_their_end(stand: Stand) -> None:
    """A run that completed and one that failed are two runs of that agent, and of no other. [R-54]"""
    before = scrape(stand.url)
    for text in ("well", "fail"):
        session = stand.stack.client.send_message(agent_name="greet", request_parts=[{"partId": "p", "text": text}])
        session.wait_for_terminal(timeout=30)
    name, ends = "blocks_worker_runs_total", ("completed", "failed", "canceled")

    def more(told: Scraped) -> dict[str, float]:
        kinds = [{"agent": "greet", "state": state} for state in ends]
        return {kind["state"]: told.sum(name, **kind) - before.sum(name, **kind) for kind in kinds}

    # A client may hear of an end before its worker counts it.
    wait_until(lambda: sum(more(scrape(stand.url)).values()) >= 2, what="both are counted")
    after = scrape(stand.url)

    assert more(after) == {"completed": 1, "failed": 1, "canceled": 0}
    assert after.sum("blocks_worker_ready") == 2
    assert after.sum("blocks_worker_transport_turns_total", link="connected") >= 2


def test_a_taken_port_says_what_to_do(stand: Stand) -> None:
    """A port that is taken is a configuration that cannot work. [R-61]"""
    port = int(stand.url.rpartition(":")[2])

    with pytest.raises(ConfigurationError, match=f"{port} is taken; give another with --health-port"):
        HealthPort(port, HealthPages(stand.watched))


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [("/livez", "evil.example:1", 403), ("/livez", "[", 403), ("/x", "[::1]:1", 404), ("/x", "localhost", 404)],
)
def test_others_names_and_addresses_are_refused(stand: Stand, path: str, host: str, status: int) -> None:
    """A page of a foreign site cannot read the port by a name of its own; an unknown address is told the known ones."""
    answered = page(stand.url + path, Host=host)

    assert answered.status == status
    assert ("/readyz" in answered.json["message"]) is (status == 404)


def test_callers_who_say_nothing_hold_up_nobody(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow callers, however many, shut the port for nobody: the oldest makes room for who comes next. [R-54]"""
    # Who was asked to make room, or has his answer, has this time to be gone.
    monkeypatch.setattr("blocks_worker.cli.health_port.ROOM", 1.0)
    with ExitStack() as opened:
        port = opened.enter_context(HealthPort(0, HealthPages(stand.watched), patience=60))
        address = ("127.0.0.1", int(port.url.rpartition(":")[2]))
        silent = [opened.enter_context(socket.create_connection(address)) for _ in range(MOST_REQUESTS + 2)]
        for _ in range(2):
            assert page(f"{port.url}/livez").status == 200
            wait_until(lambda: port._server._free._value == 1, what="the place of the answered one")
        for each in silent:
            each.settimeout(0.1)
        assert [closed(each) for each in silent[:4]] == [True] * 3 + [False], "one place serves both callers"
        for each in silent:
            each.close()
        wait_until(lambda: answers(port.url), what="room again")


def test_a_request_that_drips_is_over_by_its_time() -> None:
    """A byte now and then is no new time: the whole request has one deadline. [R-54]"""
    with HealthPort(0, HealthPages([]), patience=0.3) as port:
        address = ("127.0.0.1", int(port.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=0.02) as slow:
            slow.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
            wait_until(lambda: dripped(slow), what="the end of the connection")
        # For that it has as little time.
        wait_until(lambda: answers(port.url), what="an answer to another one")


def dripped(connection: socket.socket) -> bool:
    """Send one byte more; tell whether the other side ended the connection."""
    try:
        connection.sendall(b"a")
    except OSError:
        return True
    return closed(connection)


def test_many_callers_at_once_are_all_answered(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there are places for wait their turn. [R-54]"""
    monkeypatch.setattr("blocks_worker.cli.health_port.ROOM", 10.0)
    with ThreadPoolExecutor(40) as callers:
        told = list(callers.map(lambda _: page(f"{stand.url}/livez").status, range(80)))

    assert told == [200] * 80


#: A process that has no descriptor left while a caller waits; it prints the seconds of processor time of one second.
NO_DESCRIPTORS = """
import os, resource, socket, threading, time
from blocks_worker.cli.health_pages import HealthPages
from blocks_worker.cli.health_port import HealthPort

with HealthPort(0, HealthPages([])) as port:
    address = ("127.0.0.1", int(port.url.rpartition(":")[2]))
    ask = b"GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
    with socket.create_connection(address) as first:
        first.sendall(ask)
        first.recv(12)
    caller, files = socket.socket(), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    caller.connect(address)
    caller.sendall(ask)
    begun = time.process_time()
    threading.Event().wait(1)
    used = time.process_time() - begun
    for each in files:
        os.close(each)
    caller.settimeout(10)
    print(used, caller.recv(12).decode())
"""


def test_who_cannot_be_taken_costs_nothing() -> None:
    """Without a free descriptor the port tries again now and then, and answers when there is one. [R-54]"""
    done = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS], capture_output=True, text=True, timeout=60, check=True
    )
    used, _, answer = done.stdout.strip().partition(" ")

    assert float(used) < 0.4
    assert answer == "HTTP/1.0 200"


def closed(connection: socket.socket) -> bool:
    """Tell whether the other side ended it."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def answers(url: str) -> bool:
    """Tell whether the port answers."""
    try:
        return page(f"{url}/livez").status == 200
    except Exception:  # noqa: BLE001 - whatever it is, it did not answer
        return False


def test_an_instance_that_ended_is_not_ready(stand: Stand) -> None:
    """One that was drained is not ready, and one that found no hub yet says so. [R-54]"""
    with LocalStack({"brief": stand.greet}) as stack:
        brief = stack.agents["brief"]
        watched = [Watched("brief", brief), Watched("never", None)]
        with HealthPort(0, HealthPages(watched)) as port:
            brief.drain(0)
            told = {each["agent"]: each for each in page(f"{port.url}/readyz").json["agents"]}
            numbers = scrape(port.url)
        with pytest.raises(Exception, match="refused"):
            page(f"{port.url}/livez", timeout=Deadline(1).remaining() or 1)

    assert not any(each["ready"] for each in told.values())
    assert [one["says"] for one in told["brief"]["conditions"] if one["name"] == "serving"] == ["stopped"]
    assert told["never"]["conditions"] == [{"name": "registered", "ok": False, "says": "no hub was reached yet"}]
    assert numbers.sum("blocks_worker_ready", agent="brief") == 0


def test_an_agent_that_was_asked_to_drain_is_left_out(stand: Stand) -> None:
    """The others of the process make the verdict, as long as there are any; what has ended has no slots. [R-54]"""
    with LocalStack({"leaves": stand.greet, "stays": stand.greet}) as stack:
        watched = [Watched(name, agent) for name, agent in stack.agents.items()]
        with HealthPort(0, HealthPages(watched)) as port:
            drained(stack, "leaves")
            left = page(f"{port.url}/readyz")
            numbers = scrape(port.url)
            slots = {each["agent"]: each["slots"] for each in page(f"{port.url}/worker").json["agents"]}
            drained(stack, "stays")
            gone = page(f"{port.url}/readyz")

    told = {each["agent"]: (each["ready"], each["askedToDrain"]) for each in left.json["agents"]}
    assert (left.status, told) == (200, {"leaves": (False, True), "stays": (True, False)})
    assert (gone.status, gone.json["status"]) == (503, "not ready")
    for name in ("slots", "slots_free"):
        assert numbers.by("agent", f"blocks_worker_{name}") == {"leaves": 0, "stays": 1}
    assert slots == {"leaves": 0, "stays": 1}
    assert set(numbers.by("agent", "blocks_worker_hub_heard_seconds")) == {"stays"}


def drained(stack: LocalStack, agent: str) -> None:
    """Ask an instance to drain, as `blocks drain` does, and wait for its end."""
    instance = stack.agents[agent]
    caller = Caller(LocalHub(stack.url, "", "", 0, "", ""), stack.api_key)
    path = f"/api/v1/registry/instances/{instance.instance_id}/drain"
    assert caller.ask("POST", path, bearer=caller.consumer()["accessToken"]).status == 202
    caller.pool.clear()
    wait_until(lambda: instance.state == "stopped", what="the end")
