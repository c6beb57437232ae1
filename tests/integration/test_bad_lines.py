"""Lines on which nobody answers, names that nobody knows, a hub and a network that refuse or restart."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from localnet import networks
from pubnub_pair import Inbox, transports
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import Fault, FaultProxy, cdm_through

from blocks_worker import AgentInstance, HubUnavailableError, TaskClient, start_agent_instance
from blocks_worker.concurrency import Deadline
from blocks_worker.config import HubConfig, state_dir
from blocks_worker.controlplane.http import CONNECT_TIMEOUT, Http
from blocks_worker.hub.hub import Hub
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

HEARTBEATS = "/api/v1/heartbeats"


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a key where workers look for it."""
    return lambda key: monkeypatch.setenv("BLOCKS_API_KEY", key)


@contextmanager
def nobody_accepts() -> Iterator[int]:
    """Give a port whose packets vanish: its queue of connections is full, and nobody takes one."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = int(listener.getsockname()[1])
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield port


def test_a_server_whose_packets_vanish_is_given_up_in_time() -> None:
    """Nobody answers even the first packet: the caller is told in the time to connect, and nothing was sent. [A3]"""
    with nobody_accepts() as port:
        http = Http(f"http://127.0.0.1:{port}", timeout=30)
        begun = time.monotonic()
        with pytest.raises(HubUnavailableError) as caught:
            http.call("GET", "/api/v1/cdm")
        took = time.monotonic() - begun
        http.close()

    assert not caught.value.sent
    assert 0.5 * CONNECT_TIMEOUT < took < CONNECT_TIMEOUT + 10


@contextmanager
def worker(cdm: str, name: str = "echo", **options: Any) -> Iterator[AgentInstance]:
    """Serve echo by a document."""
    given = {"agent_name": name, "handler": lambda task: task.text(), "cdm_url": cdm}
    with start_agent_instance({**given, "embedded_hub": False, "heartbeat_ms": 1000, **options}) as instance:
        instance.wait_ready(30)
        yield instance


def test_a_hub_that_falls_silent_is_asked_again_in_time(tmp_path: Path, allowed: Callable[[str], None]) -> None:
    """Connections stay open and nothing comes: the next try is there within two heartbeats, and all goes on. [A3]"""
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as proxy:
        allowed(hub.key)
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        with worker(cdm), TaskClient.create("free") as client:
            first = len(proxy.exchanges)
            proxy.black_hole()
            wait_until(lambda: hanging(proxy, first), what="the heartbeat that hangs")
            begun = time.monotonic()
            wait_until(lambda: len(hanging(proxy, first)) >= 2, what="the next try")
            took = time.monotonic() - begun
            proxy.heal()

            assert took <= 15
            assert client.run("echo", "hi", 20).text == "hi"


def hanging(proxy: FaultProxy, first: int) -> list[str]:
    """Return the heartbeats from a number on that hang."""
    later = list(proxy.exchanges)[first:]
    return [one.path for one in later if one.fault is Fault.HANG and one.path == HEARTBEATS]


def test_a_name_that_is_known_again_is_resolved_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub whose name nobody knows, or leads nowhere, is asked for again; proxies are left alone. [A20]"""
    resolve, asked = socket.getaddrinfo, list[str]()
    leads_to: dict[str, str | None] = {"localhost": None}

    def resolving(host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in leads_to:
            return resolve(host, *more, **named)
        asked.append(name)
        there = leads_to[name]
        if there is None:
            raise socket.gaierror(socket.EAI_AGAIN, "no name service")
        return resolve(there, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with running_hub(state_dir()) as hub:
        port = hub.address.url.rpartition(":")[2]
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)

        class Named:
            json = hub.ask("GET", "/api/v1/cdm").json

        class Place:
            url = f"http://localhost:{port}"

        cdm = cdm_through(Named(), tmp_path, hub=Place())  # type: ignore[arg-type]  # its document and its address
        given = {"agent_name": "echo", "handler": lambda task: task.text(), "cdm_url": cdm}
        with start_agent_instance({**given, "embedded_hub": False}) as instance:
            wait_until(lambda: len(asked) >= 2, what="the name is asked for again")
            leads_to["localhost"] = "127.0.0.2"  # nobody listens there
            before = len(asked)
            wait_until(lambda: len(asked) > before, what="the dead address is tried")
            assert instance.state != "ready"
            leads_to["localhost"] = "127.0.0.1"
            instance.wait_ready(40)
            with TaskClient.create("free", api_key=hub.key) as client:
                assert client.run("echo", "hi", 20).text == "hi"


@pytest.mark.timeout(600)
def test_a_network_that_restarts_again_and_again(request: pytest.FixtureRequest) -> None:
    """After each restart the next message is soon there; over all of them each comes once, in order. [A4]"""
    restarts = 50 if request.config.getoption("--long") else 8
    took: list[float] = []
    with networks() as start, transports() as make:
        net = start(hold=1.0, testing=True)
        reader, sender = make(net.port, "reader", hold=1.0), make(net.port, "sender")
        inbox = Inbox(reader.subscribe(["a"]))
        sender.publish("a", [{"i": 0}], Deadline(20))
        inbox.until(1)
        for number in range(1, restarts + 1):
            net.loop.run(net.network.faults.restart(keep=True))
            begun = time.monotonic()
            sender.publish("a", [{"i": number}], Deadline(20))
            inbox.until(number + 1, 20)
            took.append(time.monotonic() - begun)

        assert inbox.until(restarts + 1) == list(range(restarts + 1))
    assert sorted(took)[len(took) * 99 // 100] < 10


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("workers", "beat_ms", "away", "window", "coming_back"),
    # After a minute each registers anew: the beat that is told so, the connect, and two beats to prove the network.
    [(12, 1000, 4.0, 2.0, 0), pytest.param(60, 5000, 60.0, 10.0, 4, marks=pytest.mark.long)],
)
def test_a_hub_that_refuses_everybody_is_not_stormed(
    tmp_path: Path,
    allowed: Callable[[str], None],
    workers: int,
    beat_ms: int,
    away: float,
    window: float,
    coming_back: int,
) -> None:
    """503 for everybody: few repeats, nobody rushes in afterwards, each task is done. [A14]"""
    folder = state_dir()
    hub = Hub(HubConfig(state_dir=folder, port=0, reserve_bytes=1 << 20))
    address = hub.start()
    caller = Caller(address, StateFolder(folder).local_key())
    allowed(caller.key)
    with ExitStack() as stack:
        stack.callback(lambda: hub.stop(Deadline(20)))
        stack.callback(caller.pool.clear)
        proxy = stack.enter_context(FaultProxy(address.url))
        cdm = cdm_through(caller.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        for number in range(workers):
            stack.enter_context(worker(cdm, f"echo{number}", heartbeat_ms=beat_ms))
        client = stack.enter_context(TaskClient.create("free", cdm_url=cdm, api_key=caller.key, timeout=120))
        crowd = stack.enter_context(Crowd(client, workers, pause=beat_ms / 1000))
        wait_until(lambda: len(crowd.done) >= workers, 60, "everybody's first task")

        # A machine that pauses makes one of them too small.
        usual = max(counted(proxy, window) for _ in range(2))
        hub.turn_away(everybody=True)
        at_first = counted(proxy, away / 2)
        later = counted(proxy, away / 2)
        hub.turn_away(everybody=False)
        after = counted(proxy, window)
        crowd.ends()

    rates = {
        "usual": usual / window,
        "at first": at_first / away * 2,
        "later": later / away * 2,
        "after": after / window,
    }
    assert {one.status for one in proxy.exchanges} >= {503}
    assert crowd.failed == []
    assert len(crowd.done) == len(crowd.asked) >= 2 * workers
    assert set(crowd.done) == set(crowd.asked)
    assert rates["later"] <= 1.1 * rates["usual"], rates
    assert after <= 2 * usual + coming_back * workers, rates


class Crowd:
    """Be many who have a task done again and again, each by an agent of his own."""

    def __init__(self, client: TaskClient, size: int, *, pause: float) -> None:
        self.asked: list[str] = []
        self.done: list[str] = []
        self.failed: list[Exception] = []
        self._client = client
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(f"echo{number}",)) for number in range(size)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.ends()

    def ends(self) -> None:
        """Ask nothing more, and wait for what was asked."""
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def _ask(self, name: str) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self.asked.append(f"{name} {number}")
            try:
                self.done.append(self._client.run(name, f"{name} {number}", 120).text)
            except Exception as error:  # noqa: BLE001 - told by the test
                self.failed.append(error)
            self._over.wait(self._pause)


def counted(proxy: FaultProxy, seconds: float) -> int:
    """Return how many requests come in so many seconds."""
    before = len(proxy.exchanges)
    threading.Event().wait(seconds)
    return len(proxy.exchanges) - before
