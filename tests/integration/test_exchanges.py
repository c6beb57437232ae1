"""What is said between worker, client and hub, and what it costs: counted, held back and lost at a proxy."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from canned import Canned, reply
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import Exchange, Fault, FaultProxy, cdm_through

from blocks_worker import AgentAuthFatalError, AgentInstance, HubUnavailableError, RpcError, TaskClient
from blocks_worker import start_agent_instance as start
from blocks_worker.config import state_dir
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
from blocks_worker.protocol.credentials import CreateKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

API = "/api/v1/"
#: So many that none is ever too few.
ALWAYS = 1_000


class World:
    """A hub, a proxy of the worker's and one of the client's before it."""

    def __init__(self, hub: Caller, worker: FaultProxy, client: FaultProxy, folder: Path) -> None:
        self.hub = hub
        self.at_worker = worker
        self.at_client = client
        document = hub.ask("GET", "/api/v1/cdm")
        self.network = FaultProxy(document.json["origin"])
        self._worker = cdm_through(document, folder, hub=worker)
        self._client = cdm_through(document, folder, hub=client, network=self.network)

    @contextmanager
    def worker(self, handler: Callable[..., object], **options: Any) -> Iterator[AgentInstance]:
        """Serve a handler as echo, with seldom heartbeats."""
        given = {"agent_name": "echo", "handler": handler, "cdm_url": self._worker, "drain_timeout": 0}
        with start({**given, "heartbeat_ms": 10_000, "embedded_hub": False, **options}) as instance:
            instance.wait_ready(30)
            yield instance

    def client(self) -> TaskClient:
        """Open a client."""
        return TaskClient.create("free", cdm_url=self._client, api_key=self.hub.key, timeout=20)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Run a hub and the proxies."""
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as one, FaultProxy(hub.address.url) as two:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        made = World(hub, one, two, tmp_path)
        with made.network:
            yield made


def to(path: str) -> Callable[[Exchange], bool]:
    """Return what fits exchanges with this address."""
    return lambda exchange: exchange.path == API + path


def hangs(proxy: FaultProxy) -> list[str]:
    """Return where the exchanges went that hang."""
    return [exchange.path for exchange in list(proxy.exchanges) if exchange.fault is Fault.HANG]


def echo(task: Any) -> str:
    """Return the text."""
    return str(task.text())


class Held:
    """A handler that notes the texts it was called with, and waits for its cancel when the text says so."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.cancelled = threading.Event()

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        self.called.append(task.text())
        if task.text() == "wait" and ctx.wait(30):
            self.cancelled.set()
        return "done"


def test_the_listener_waits_for_no_request(world: World) -> None:
    """While no claim is answered, a cancel that comes by the network is heard at once. [R-34]"""
    handler = Held()
    with world.worker(handler, concurrency=3), world.client() as client:
        first = client.send_message("echo", "wait")
        # Its first report is over: the answer to that would tell of the cancel too.
        wait_until(lambda: first.state == "running", what="the first run")
        # No other answer of the hub brings it either.
        for path in ("claims", "reports", "heartbeats"):
            world.at_worker.fail(Fault.HANG, to(path), times=ALWAYS)
        client.send_message("echo", "claimed in vain")
        wait_until(lambda: API + "claims" in hangs(world.at_worker), what="the claim that hangs")

        first.cancel()
        assert handler.cancelled.wait(20)
        assert hangs(world.at_worker).count(API + "claims") == 1, "the same claim is waited for all the while"
        world.at_worker.heal()


def test_a_handler_waits_for_no_report_and_no_presence(world: World) -> None:
    """Neither the event that it runs nor a heartbeat has to be answered before the handler is called. [R-35]"""
    handler = Held()
    with world.worker(handler), world.client() as client:
        world.at_worker.fail(Fault.HANG, to("reports"), times=ALWAYS)
        world.at_worker.fail(Fault.HANG, to("heartbeats"), times=ALWAYS)
        session = client.send_message("echo", "hi")

        wait_until(lambda: handler.called == ["hi"], what="the call")
        asked = hangs(world.at_worker)
        assert all(asked.count(API + path) <= 1 for path in ("reports", "heartbeats")), "none was given up before"
        wait_until(lambda: API + "reports" in hangs(world.at_worker), what="the report that hangs")
        assert client.get_task(session.task_id).state == "running"
        world.at_worker.heal()
        assert session.text(20) == "done"


def test_connections_are_kept(world: World) -> None:
    """Twenty tasks one after another need no connections of their own: a beat that meets a report has one. [R-38]"""
    with world.worker(echo), world.client() as client:
        for number in range(3):
            client.run("echo", str(number), 20)
        before = world.at_worker.connections, world.at_client.connections
        exchanges = len(world.at_worker.exchanges)
        texts = [client.run("echo", str(number), 20).text for number in range(20)]

    assert texts == [str(number) for number in range(20)]
    assert len(world.at_worker.exchanges) - exchanges >= 40
    # One each for claims, reports and beats, should they meet.
    assert world.at_worker.connections - before[0] <= 2
    assert world.at_client.connections == before[1]


def test_a_task_is_one_exchange_of_its_sender(world: World) -> None:
    """The submit is all that is asked of the hub, up to the end; no history is read, neither there nor here. [R-39]"""
    with world.worker(echo), world.client() as client:
        client.run("echo", "first", 20)
        before = len(world.at_client.exchanges)
        for number in range(5):
            with client.send_message("echo", str(number)) as session:
                assert session.text(20) == str(number)
                wait_until(lambda: session.is_closed, what="callbacks told")
        asked = [exchange.path for exchange in world.at_client.exchanges[before:]]

    assert asked == [API + "tasks"] * 5
    assert not [exchange.path for exchange in world.network.exchanges if "history" in exchange.path]
    assert any("subscribe" in exchange.path for exchange in world.network.exchanges)


def test_a_gap_is_filled_from_the_history(world: World) -> None:
    """What the network lost of a task is read at the hub, and the session is whole. [R-39] [R-13] [D-3]"""
    handler = Held()
    with world.worker(handler), world.client() as client:
        client.run("echo", "first", 20)
        session = client.send_message("echo", "wait")
        wait_until(lambda: session.state == "running" and "wait" in handler.called, what="the run")
        world.network.cut()
        client.cancel_task(session.task_id)

        assert session.wait_for_terminal(30).state == "canceled"
        assert [event.type for event in session.list_events()] == [
            "progress", "cancel_requested", "artifact", "terminal",
        ]  # fmt: skip
        assert world.at_client.count(API + "events")


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_REPLY])
def test_what_must_happen_once_is_asked_for_once(world: World, fault: Fault) -> None:
    """A key is not made twice because a connection broke; the error says how to look after it. [R-22] [A14]"""
    world.at_client.fail(fault, to("auth/keys"))
    http = Http(world.at_client.url)
    try:
        with pytest.raises(HubUnavailableError, match="blocks keys list") as caught:
            HubApi(http).create_key(world.hub.key, CreateKey(name="once"))
        names = [key.name for key in HubApi(http).keys(world.hub.key)]
    finally:
        http.close()

    assert caught.value.sent
    assert names.count("once") == (1 if fault is Fault.DROP_REPLY else 0)


def test_what_broke_is_asked_again_and_what_was_refused_is_not(world: World) -> None:
    """A broken connection is tried again; a refusal is not, and its code, text and details come through. [R-22]"""
    with world.worker(echo):
        world.at_client.fail(Fault.DROP_REPLY, to("auth/agent/consumer-token"))
        world.at_client.fail(Fault.DROP_REPLY, to("tasks"), times=3)
        with world.client() as client:
            assert client.run("echo", "hi", 20).text == "hi"
            assert world.at_client.count(API + "auth/agent/consumer-token") == 2
            assert world.at_client.count(API + "tasks") == 4

            before = world.at_client.count(API + "tasks")
            client.send_message(agent_name="echo", request_parts="x", idempotency_key="k")
            with pytest.raises(RpcError) as caught:
                client.send_message(agent_name="echo", request_parts="y", idempotency_key="k")
            assert world.at_client.count(API + "tasks") == before + 2

    error = caught.value
    assert (error.code, error.status) == ("IdempotencyConflict", 422)
    assert error.rpc_message == "this idempotency key was used with another body: use a new key"
    assert error.data["taskId"]


#: Sentences that would mislead whoever looked for words in them.
MISLEADING = [
    "401 Unauthorized: API_KEY_INVALID",
    "connection reset by peer, timed out, 503 Service Unavailable",
    "TOKEN_EXPIRED REFRESH_TOKEN_INVALID AGENT_FORCED_OFFLINE NotFound 404",
]


@pytest.mark.parametrize("text", MISLEADING)
def test_a_refusal_is_known_by_its_code_and_not_by_its_words(text: str) -> None:
    """Whatever the sentence of an answer says, status and code decide: no retry, no login, no end for good. [R-47]"""
    body = b'{"code":"InvalidInput","message":"%s","details":null}' % text.encode()
    with Canned(reply(400, body, kind="application/json")) as server, pytest.raises(RpcError) as caught:
        TaskClient.create(
            "free", base_url=f"http://127.0.0.1:{server.port}", subscribe_key="s", publish_key="p", api_key="bk_x"
        )

    assert (caught.value.code, caught.value.status, caught.value.rpc_message) == ("InvalidInput", 400, text)
    assert len(server.requests) == 1


def test_a_refusal_for_good_is_known_by_its_code_alone() -> None:
    """The code says that the key is refused, though the sentence speaks of something else. [R-47]"""
    body = b'{"code":"API_KEY_INVALID","message":"timed out, try again later (503)","details":null}'
    with Canned(reply(401, body, kind="application/json")) as server, pytest.raises(AgentAuthFatalError) as caught:
        TaskClient.create(
            "free", base_url=f"http://127.0.0.1:{server.port}", subscribe_key="s", publish_key="p", api_key="bk_x"
        )

    assert caught.value.code == "API_KEY_INVALID"
    assert len(server.requests) == 1
