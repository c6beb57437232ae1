"""[K10] Who opens much, sends slowly or reads nothing: each has a bound, and an honest caller is served meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from support import LoopThread, wait_until
from support_hub import Caller, running_hub
from support_probes import Arena, World
from uvicorn import Config
from uvicorn.server import ServerState

from blocks_worker.hub.connection import BoundedConnection
from blocks_worker.hub.network.crowd import Crowd
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.tasks import MAX_BATCH
from blocks_worker.quotas import Quotas
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
#: Descriptors of the process that is flooded: the network may have half of them, the hub's door a quarter.
DESCRIPTORS = 256
#: Of a long answer: far more than the system takes for a caller who does not read.
PIECE = b"x" * 50_000
PIECES = 1000


# ------------------------------------------------------------------------------------------------ one connection
class Quick(BoundedConnection):
    """Be a connection of the hub with the patience of its site, of which there may be three."""

    site: Site

    def connection_made(self, transport: Any) -> None:
        """Begin, and be counted."""
        super().connection_made(transport)
        self.site.taken += 1

    def most(self) -> int:
        """Return a number that a test can reach."""
        return 3


class Site:
    """Serve one application by such connections."""

    def __init__(self, loop: LoopThread, crowd: Crowd | None = None) -> None:
        self.state = ServerState()
        self.crowd = crowd or Crowd("site", 0)
        self.release = loop.call(asyncio.Event)
        #: Seconds for a head, and for what lies ready; no machine stands still for so long.
        self.patience = 30.0
        #: How many connections there were.
        self.taken = 0
        config = Config(self._app, ws="none", lifespan="off", log_config=None, access_log=False, interface="asgi3")
        config.load()

        def connection() -> Quick:
            made = Quick(config=config, server_state=self.state, app_state={})
            made.crowd, made.site = self.crowd, self
            made.head_timeout = made.take_timeout = self.patience
            return made

        self._server = loop.run(loop.loop.create_server(connection, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self.loop = loop

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.release.wait()
        pieces = PIECES if scope["path"] == "/large" else 1
        size = b"%d" % (pieces * len(PIECE))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def open(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect, from one of this machine's own addresses."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))

    def opened(self) -> socket.socket:
        """Connect, and return once the connection is there at the other end too."""
        before, made = self.taken, self.open()
        wait_until(lambda: self.taken > before, what="the connection is taken")
        return made

    def close(self) -> None:
        """End."""

        async def closed() -> None:
            self._server.close()
            for each in list(self.state.connections):
                each.transport.abort()
            await self._server.wait_closed()

        self.loop.run(closed())


@pytest.fixture
def site() -> Iterator[Site]:
    """Give a served application."""
    with LoopThread() as loop:
        made = Site(loop)
        yield made
        made.close()


def _ask(connection: socket.socket, path: str = "/") -> bytes:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return _answer(connection)


def _answer(connection: socket.socket) -> bytes:
    """Return one whole answer."""
    got = b""
    while got.count(b"x") < len(PIECE):
        got += connection.recv(65_536)
    return got


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"X: " + b"y" * 5000])
def test_a_slow_head_is_cut(site: Site, sent: bytes) -> None:
    """[H7] Whatever of a head is there when its time is over, the connection ends."""
    site.patience = 0.2
    with site.open() as slow, suppress(ConnectionError):  # it may be cut before all is sent
        slow.sendall(sent)
        assert slow.recv(1) == b""
    wait_until(lambda: not site.state.connections, what="nothing is left of it")


def test_a_dripping_head_is_cut(site: Site) -> None:
    """[H7] A byte now and then does not renew the time of a head."""
    site.patience = 0.2
    with site.opened() as slow:
        end = time.monotonic() + 40

        def cut() -> bool:
            try:
                slow.sendall(b"G" if time.monotonic() < end else b"")
            except OSError:
                return True
            return not site.state.connections

        wait_until(cut, timeout=30, what="the connection is cut")


def test_who_does_not_read_is_cut(site: Site) -> None:
    """An answer of which nothing is taken is not kept for ever; one that is read comes whole."""
    site.patience = 0.5
    with site.opened() as deaf:
        with suppress(ConnectionError):  # it may be cut before it asks
            deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: not site.state.connections, what="the connection is cut")
    site.patience = 30.0
    with site.open() as reader:
        reader.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = sum(len(piece) for piece in iter(lambda: reader.recv(1 << 20), b""))
    assert got > PIECES * len(PIECE)


def test_one_more_takes_the_place_of_the_longest_silent(site: Site) -> None:
    """What is being answered keeps its place; idle and half sent requests give way, the oldest first."""
    with site.open() as answered, site.open() as idle, site.open() as half:
        answered.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _ask(idle)[:15] == b"HTTP/1.1 200 OK"
        half.sendall(b"GET / HT")
        wait_until(lambda: sum(each.is_answering() for each in site.state.connections) == 1, what="one is answered")
        with site.open() as fourth, site.open() as fifth:
            assert _ask(fourth)[:15] == b"HTTP/1.1 200 OK"
            assert _ask(fifth)[:15] == b"HTTP/1.1 200 OK"
            assert (idle.recv(1), half.recv(1)) == (b"", b"")
            site.loop.call(site.release.set)
            assert _answer(answered)[:15] == b"HTTP/1.1 200 OK"
            wait_until(lambda: len(site.state.connections) == 3, what="as many as there may be")


def test_who_opens_many_takes_nobody_elses_place(site: Site) -> None:
    """[H7] [K10] Of several addresses the one with most connections gives way, however long another one was silent."""
    with ExitStack() as stack:
        honest = stack.enter_context(site.open("127.0.0.2"))
        assert _ask(honest)[:15] == b"HTTP/1.1 200 OK"
        flood = [stack.enter_context(site.open()) for _ in range(12)]
        wait_until(lambda: len(site.state.connections) == 3, what="as many as there may be")

        assert _ask(honest)[:15] == b"HTTP/1.1 200 OK"
        assert _ask(flood[-1])[:15] == b"HTTP/1.1 200 OK"
        assert flood[0].recv(1) == b""


def test_one_more_of_an_address_is_told_why(site: Site) -> None:
    """[H7] Who has as many as he may reads 503 on one more; what he has is served, and others find room."""
    site.crowd = Crowd("site", 2)
    with site.open() as one, site.open() as two, site.open("127.0.0.2") as other:
        assert {_ask(each)[:15] for each in (one, two, other)} == {b"HTTP/1.1 200 OK"}
        with site.open() as more:
            more.sendall(HEAD + b"\r\n")
            told = b"".join(iter(lambda: more.recv(4096), b""))
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 5\r\n" in told
        assert b"--max-address-connections" in told
        assert {_ask(each)[:15] for each in (one, two, other)} == {b"HTTP/1.1 200 OK"}
        two.close()
        wait_until(lambda: len(site.state.connections) == 2, what="the end of one")
        with site.open() as again:
            assert _ask(again)[:15] == b"HTTP/1.1 200 OK"
    assert site.crowd.refused == 1


def test_a_place_that_is_answered_is_not_taken(site: Site) -> None:
    """Where all are being answered, one more is closed, and has room when one is done."""
    with ExitStack() as stack:
        busy = [stack.enter_context(site.open()) for _ in range(3)]
        for each in busy:
            each.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: sum(each.is_answering() for each in site.state.connections) == 3, what="all are answered")
        with site.open() as more:
            assert more.recv(1) == b""
        site.loop.call(site.release.set)
        assert {_answer(each)[:15] for each in busy} == {b"HTTP/1.1 200 OK"}


# ------------------------------------------------------------------------------------------------ a whole hub
@contextmanager
def _process(folder: Path) -> Iterator[Caller]:
    """Run a real `blocks-hub` that may open few files."""
    program = str(Path(sys.executable).with_name("blocks-hub"))

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))

    process = subprocess.Popen(
        [program, "--state-dir", str(folder), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=few,  # noqa: PLW1509 - nothing else runs here between fork and exec
    )
    try:
        found = wait_until(lambda: StateFolder(folder).discovered(), timeout=90, what="the hub answers")
        caller = Caller(found, StateFolder(folder).local_key())
        yield caller
        caller.pool.clear()
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Give a hub in a process of its own that may open few files."""
    folder = tmp_path_factory.mktemp("flooded")
    with _process(folder) as caller:
        yield Arena(caller, folder)


@pytest.mark.parametrize(
    "sent", [b"", HEAD, b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
)
@pytest.mark.parametrize("door", ["url", "origin"])
def test_a_flood_of_connections_keeps_no_honest_caller_out(flooded: Arena, door: str, sent: bytes) -> None:
    """[K10] [H7] More connections than there may be files, idle or half sent: who asks is served."""
    world = World(flooded, flooded.hub.key)
    where = urlsplit(getattr(flooded.hub.address, door))
    pid = flooded.hub.address.pid
    with ExitStack() as stack:
        for number in range(2 * DESCRIPTORS):
            bad = stack.enter_context(socket.create_connection((where.hostname, where.port), timeout=10))
            try:
                bad.sendall(sent)
            except OSError:
                continue  # cut already
            if number % 64 == 0:
                flooded.hub.pool.clear()  # a kept connection that rests is as silent as those of the flood
                assert flooded.hub.ask("GET", "/livez").status == 200
        flooded.hub.pool.clear()
        assert flooded.hub.ask("GET", "/api/v1/tasks", bearer=world.consumer).status == 200
        assert flooded.network("publish", f"w.{world.session}", world.login["pamToken"], world.session).status == 200
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < DESCRIPTORS - 16


@pytest.mark.parametrize("door", ["url", "origin"])
def test_slow_clients_of_one_address_keep_no_other_out(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    """[H7] [K10] Many slow clients of one address: it has its share, what is above is refused, others are served."""
    slow, most = (500, 100) if request.config.getoption("--long") else (80, 20)
    with running_hub(tmp_path, quotas=Quotas(address_connections=most)) as hub, ExitStack() as stack:
        where, path = urlsplit(getattr(hub.address, door)), "/livez" if door == "url" else "/time/0"
        place = (str(where.hostname), where.port or 0)

        def served() -> bool:
            honest = http.client.HTTPConnection(*place, timeout=10, source_address=("127.0.0.2", 0))
            with closing(honest):
                honest.request("GET", path)
                return honest.getresponse().status == 200

        crowd = [stack.enter_context(socket.create_connection(place, timeout=10)) for _ in range(slow)]
        assert served()
        for turn in range(4):
            # A byte of a head, and then another.
            for each in crowd:
                with suppress(OSError):
                    each.sendall(HEAD[turn : turn + 1])
            assert served()
        told = [_said(each) for each in crowd]
        refused = [one for one in told if one is not None]
        if slow > most * 4:
            wait_until(lambda: _are_cut(crowd), timeout=60, what="the time of a head is over for all")
            assert served()
        for each in crowd:
            each.close()
        hub.pool.clear()
        wait_until(lambda: _is_served(place, path), what="room for the address again")
        metrics = hub.ask("GET", "/metrics").body.decode()

    name = "hub" if door == "url" else "network"
    assert told.count(None) == most
    assert any(b" 503 " in one for one in refused)
    assert all(not one or b" 503 " in one for one in refused)
    counted = [line for line in metrics.splitlines() if f'connections_refused_total{{door="{name}"}}' in line]
    assert float(counted[0].rpartition(" ")[2]) >= slow - most
    assert [one.__dict__["from"] for one in caplog.records if one.message == "connections_refused"] == ["127.0.0.1"]


def _said(connection: socket.socket) -> bytes | None:
    """Return what a connection was told before it was ended; None: it goes on."""
    connection.settimeout(0)
    try:
        return connection.recv(4096)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _are_cut(crowd: list[socket.socket]) -> bool:
    """Let each send a little more; tell whether all have been ended."""
    for each in crowd:
        with suppress(OSError):
            each.sendall(b"x")
    return all(_said(each) is not None for each in crowd)


def _is_served(place: tuple[str, int], path: str) -> bool:
    """Tell whether somebody at the address of the crowd is served."""
    with closing(http.client.HTTPConnection(*place, timeout=10)) as asking:
        try:
            asking.request("GET", path)
            return asking.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def test_requests_one_after_the_other_and_at_once_are_answered_in_order(flooded: Arena) -> None:
    """[K10] A thousand requests sent in one piece are answered one by one."""
    answer = flooded.raw(HEAD + b"\r\n" + (HEAD + b"\r\n") * 998 + HEAD + b"Connection: close\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 OK") == 1000


# ------------------------------------------------------------------------------------------------ sizes
def test_a_body_has_its_bound(stage: Arena, ann: World) -> None:
    """[K10] A MiB is taken and a byte more is not, whether its length is said or not; far more is cut off."""
    rest = len(b'{"agentName":"","requestSummary":""}') + len(ann.agent)
    for size, status in ((MAX_BODY, {201, 400, 413}), (MAX_BODY + 1, {413}), (4 * MAX_BODY, {413})):
        body = b'{"agentName":"%s","requestSummary":"%s"}' % (ann.agent.encode(), b"x" * (size - rest))
        assert len(body) == size
        answered = stage.hub.ask("POST", "/api/v1/tasks", body, bearer=ann.consumer)
        assert answered.status in status
    assert (
        stage.hub.ask("POST", "/api/v1/events", b" " * (MAX_BODY - 40) + b'{"taskId":"x"}', bearer=ann.consumer).status
        == 404
    )


@pytest.mark.parametrize(("count", "status"), [(50, 200), (200, 431), (60_000, 431)])
def test_header_fields_have_a_bound(stage: Arena, count: int, status: int) -> None:
    """[K10] [H7] Some headers are no flood; 16 KiB are refused with a record or, far above, cut off with 431."""
    head = HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 80) for number in range(count))

    answer = stage.raw(head + b"Connection: close\r\n\r\n")
    # Who still sends megabytes when he is cut off may not get to read why.
    assert answer[:12] == b"HTTP/1.1 %d" % status or (count > 1000 and not answer)
    assert stage.hub.ask("GET", "/livez").status == 200


def test_a_batch_has_its_bound(stage: Arena, ann: World) -> None:
    """[K10] 256 items are answered, one more is refused whole."""
    items = [{"taskId": "x"}] * MAX_BATCH

    assert len(stage.hub.ask("POST", "/api/v1/events", items, bearer=ann.consumer).json) == MAX_BATCH
    answered, _ = stage.refused("POST", "/api/v1/events", [*items, items[0]], bearer=ann.consumer)
    assert answered.status == 400


def test_a_backlog_has_its_bound(stage: Arena, ann: World) -> None:
    """[K10] Of an agent that nobody serves as many tasks wait as its card says; one more is 429, with a record."""
    agent = f"{ann.agent}_full"
    stage.hub.connect(agent, key=ann.key, maxPendingBacklog=3)
    tasks = [stage.hub.submit(ann.consumer, agent) for _ in range(3)]

    answered, record = stage.refused("POST", "/api/v1/tasks", {"agentName": agent}, bearer=ann.consumer)

    assert (answered.status, record["by"]) == (429, "ann")
    stage.hub.ask("POST", f"/api/v1/tasks/{tasks[0]}/cancel", {}, bearer=ann.consumer)
    assert stage.hub.ask("POST", "/api/v1/tasks", {"agentName": agent}, bearer=ann.consumer).status == 201


def test_streams_of_one_grant_have_a_bound(stage: Arena, ann: World) -> None:
    """[K10] A grant names 128 streams and no more."""
    names = [{"taskId": ann.task, "streamId": f"{ann.task}-{number}"} for number in range(1, 130)]

    granted = stage.hub.ask("POST", "/api/v1/streams/grants", {"streams": names[:128]}, bearer=ann.consumer)
    answered, _ = stage.refused("POST", "/api/v1/streams/grants", {"streams": names}, bearer=ann.consumer)

    assert (granted.status, len(granted.json["streams"]), answered.status) == (200, 128, 400)


def test_who_hangs_up_in_his_body_leaves_nothing(stage: Arena) -> None:
    """[K10] A caller that goes away half way is forgotten, and others are served."""
    where = urlsplit(stage.hub.address.url)
    for _ in range(50):
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
        connection.connect()
        connection.sock.sendall(b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        connection.close()

    assert stage.hub.ask("GET", "/readyz").status == 200
