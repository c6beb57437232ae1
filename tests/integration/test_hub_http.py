"""A whole hub over real sockets: its entry from HTTP, its life, its death, and what the SDK hears of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub
from support import wait_until
from support_hub import NO_RETRY, Answered, Caller, SetClock, running_hub
from support_tls import certificate

from blocks_worker.concurrency import Deadline
from blocks_worker.config import HubConfig
from blocks_worker.errors import ConfigurationError, StoreError
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.hub import Hub
from blocks_worker.state import LocalHub, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Give a caller of a running hub."""
    with running_hub(tmp_path_factory.mktemp("hub")) as caller:
        yield caller


def _raw(hub: Caller, sent: bytes, *, timeout: float = 20.0) -> bytes:
    """Send bytes as they are and return all that comes back until the hub closes."""
    host, port = hub.address.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    connection.connect()
    pieces: list[bytes] = []
    try:
        # Who has refused hangs up, and need not have read all: what was answered is there.
        with contextlib.suppress(ConnectionError):
            connection.sock.sendall(sent)
        with contextlib.suppress(ConnectionError):
            while piece := connection.sock.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------ entry
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NotFound"),
        ("GET", "/api/v1/nothing", 404, "NotFound"),
        ("POST", "/api/v1/rpc", 404, "NotFound"),
        ("GET", "/API/v1/cdm", 404, "NotFound"),
        ("GET", "/api/v1/cdm/", 404, "NotFound"),
        ("GET", "/api/v1/tasks/a%2Fb", 404, "NotFound"),
        ("GET", "/api/v1/../v1/cdm;x", 404, "NotFound"),
        ("DELETE", "/api/v1/cdm", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/claims", 405, "MethodNotAllowed"),
        ("PUT", "/api/v1/tasks", 405, "MethodNotAllowed"),
        ("OPTIONS", "/api/v1/tasks", 405, "MethodNotAllowed"),
        ("TRACE", "/api/v1/tasks", 405, "MethodNotAllowed"),
    ],
)
def test_wrong_addresses_and_verbs_are_told_so(hub: Caller, method: str, path: str, status: int, code: str) -> None:
    """[K10] Every refusal is a Problem with a code."""
    answered = hub.ask(method, path)

    assert (answered.status, answered.code) == (status, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:3001"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": "[::2]"},
        {"Host": "["},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": ""},
    ],
)
def test_pages_of_foreign_sites_are_kept_out(hub: Caller, headers: Mapping[str, str]) -> None:
    """[G12] A forged Host or a foreign Origin is 403 whatever is asked."""
    assert hub.ask("GET", "/api/v1/cdm", headers=headers).status == 403


def test_loopback_names_and_the_hubs_own_pages_are_let_in(hub: Caller) -> None:
    """The names of this machine are good as Host, and the hub's own address as Origin."""
    port = hub.address.url.rpartition(":")[2]
    good = [{"Host": f"localhost:{port}"}, {"Host": "[::1]"}, {"Host": "LOCALHOST"}, {"Origin": hub.address.url}]

    assert [hub.ask("GET", "/api/v1/cdm", headers=headers).status for headers in good] == [200] * 4


def test_the_document_tells_everything_a_caller_needs(hub: Caller) -> None:
    """Both keysets, both addresses, transport and polling numbers stand in the connection document."""
    document = hub.ask("GET", "/api/v1/cdm").json

    assert document["hubUrl"] == document["api"]["baseUrl"] == hub.address.url
    assert document["origin"] == hub.address.origin
    assert (document["transport"], document["pubnub"]["hold"]) == ("pubnub", 20.0)
    assert (
        len({document[name][key] for name in ("playground", "network") for key in ("publishKey", "subscribeKey")}) == 4
    )


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"junk\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\nConnection: close\r\n\r\n",
        b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_the_hub_lives_on(hub: Caller, sent: bytes) -> None:
    """[H7] [K10] Junk gets a 4xx, and the next caller is served."""
    assert _raw(hub, sent)[:10] == b"HTTP/1.1 4"
    assert hub.ask("GET", "/livez").status == 200


def test_an_endless_header_is_cut_off(hub: Caller) -> None:
    """[H7] A header block that never ends is not gathered: the connection is closed."""
    sent = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000

    assert _raw(hub, sent)[:12] == b"HTTP/1.1 431"


def test_a_body_shorter_than_its_length_holds_nobody_up(hub: Caller) -> None:
    """A caller that stalls in its body waits alone."""
    host, port = hub.address.url.removeprefix("http://").split(":")
    stalled = http.client.HTTPConnection(host, int(port), timeout=20)
    stalled.connect()
    try:
        stalled.sock.sendall(b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")

        assert hub.ask("GET", "/readyz").status == 200
    finally:
        stalled.close()


def test_a_chunked_body_over_the_limit_is_refused(hub: Caller) -> None:
    """Size is counted while it streams, whatever the headers say."""
    token = hub.consumer()["accessToken"]
    chunks = (b"x" * 65536 for _ in range(40))
    answer = hub.pool.request(
        "POST",
        f"{hub.address.url}/api/v1/tasks",
        body=chunks,
        headers={"Authorization": f"Bearer {token}"},
        timeout=20.0,
    )

    assert (answer.status, json.loads(answer.data)["code"]) == (413, "InvalidInput")


def test_answers_carry_type_length_and_date(hub: Caller) -> None:
    """Readers of the answer know what it is, how long it is and what time the hub has."""
    headers = hub.ask("GET", "/api/v1/cdm").headers

    assert headers["content-type"] == "application/json"
    assert {"content-length", "date"} <= {name.lower() for name in headers}


# ------------------------------------------------------------------------------------------------ bus
@contextlib.contextmanager
def _sdk(hub: Caller, grant: Mapping[str, Any]) -> Iterator[PubNub]:
    config = PNConfiguration()
    config.publish_key, config.subscribe_key = grant["publishKey"], grant["subscribeKey"]
    config.uuid, config.origin, config.ssl = "watcher", hub.address.origin.removeprefix("http://"), False
    config.daemon, config.disable_config_locking = True, False
    client = PubNub(config)
    client.set_token(grant["pamToken"])
    try:
        yield client
    finally:
        client.stop()


def test_a_plain_client_of_the_network_sees_what_a_task_said(hub: Caller) -> None:
    """With a read grant the SDK finds the task's events on its channel, in order, the terminal last."""
    token = hub.consumer()["accessToken"]
    instance = hub.connect("spoken")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    task_id = hub.submit(token, "spoken")
    grant = hub.ask("POST", "/api/v1/auth/task-read-token", {"taskId": task_id}, bearer=token).json
    hub.run(instance, task_id, {"type": "progress", "progress": 0.5})

    with _sdk(hub, grant) as client:
        found = client.fetch_messages().channels([grant["channel"]]).sync().result.channels[grant["channel"]]

    bodies = [body for envelope in found for body in envelope.message["b"]]
    assert [body["type"] for body in bodies] == ["progress", "terminal"]
    assert bodies == hub.ask("GET", f"/api/v1/tasks/{task_id}/events", bearer=token).json["events"]


def test_an_offer_comes_on_the_control_channel(hub: Caller) -> None:
    """An instance hears of its offer with the grant of its connect, and nobody hears it with another's."""
    answer = hub.connect("called")
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=answer["accessToken"])
    consumer = hub.consumer()
    task_id = hub.submit(consumer["accessToken"], "called")
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    path = f"/v2/subscribe/{keys}/{answer['controlChannel']}/0?tt=1&uuid="

    heard = _ask_network(hub, f"{path}called-1&auth={answer['pamToken']}")
    foreign = _ask_network(hub, f"{path}{consumer['sessionChannel'][8:]}&auth={consumer['pamToken']}")

    controls = [json.loads(body["control"]) for message in heard.json["m"] for body in message["d"]["b"]]
    assert task_id in [control.get("taskId") for control in controls]
    assert foreign.status == 403


def test_the_session_channel_is_heard_by_its_client_only(hub: Caller) -> None:
    """All tasks of one client speak on its channel; the user id is the channel's own part."""
    consumer, other = hub.consumer(), hub.consumer()
    instance = hub.connect("session")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    task_id = hub.submit(consumer["accessToken"], "session")
    hub.run(instance, task_id)
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    path = f"/v2/subscribe/{keys}/{consumer['sessionChannel']},w.{consumer['sessionChannel'][8:]}/0?tt=1&uuid="

    heard = _ask_network(hub, f"{path}{consumer['sessionChannel'][8:]}&auth={consumer['pamToken']}")
    foreign = _ask_network(hub, f"{path}{other['sessionChannel'][8:]}&auth={other['pamToken']}")

    assert [body["taskId"] for message in heard.json["m"] for body in message["d"]["b"]] == [task_id]
    assert foreign.status == 403


def _ask_network(hub: Caller, path: str) -> Answered:
    answer = hub.pool.request("GET", hub.address.origin + path, timeout=30.0)
    return Answered(answer.status, answer.data, answer.headers)


# ------------------------------------------------------------------------------------------------ life
def test_two_hubs_do_not_share_a_folder(tmp_path: Path) -> None:
    """[E7] The second is refused with what to do; once the first is gone it starts."""
    second = Hub(HubConfig(state_dir=tmp_path, port=0))
    with running_hub(tmp_path), pytest.raises(ConfigurationError, match="another hub"):
        second.start()

    third = Hub(HubConfig(state_dir=tmp_path, port=0))
    third.start()
    third.stop()


def test_a_hub_whose_ledger_was_taken_ends(tmp_path: Path) -> None:
    """Where its lock was deleted a second one begins: the first finds it in the ledger, and ends. [E7]"""
    first = Hub(HubConfig(state_dir=tmp_path, port=0, reserve_bytes=1 << 20))
    caller = Caller(first.start(), StateFolder(tmp_path).local_key())
    try:
        caller.connect()
        token = caller.consumer()["accessToken"]
        kept = caller.submit(token)
        (tmp_path / "hub.lock").unlink()
        with running_hub(tmp_path) as second:
            wait_until(lambda: not first.is_alive(), what="the end of the first")
            with pytest.raises(urllib3.exceptions.HTTPError):
                caller.ask("POST", "/api/v1/tasks", {"agentName": "echo"}, bearer=token)

            assert second.ask("GET", f"/api/v1/tasks/{kept}", bearer=token).json["state"] == "pending"
            second.submit(token)
    finally:
        caller.pool.clear()
        first.stop(Deadline(20))


def test_a_running_hub_is_found_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    """The state folder tells where the local hub is while it answers."""
    with running_hub(tmp_path) as caller:
        assert StateFolder(tmp_path).discovered() == caller.address

    assert StateFolder(tmp_path).discovered() is None


def test_a_port_in_use_is_named_and_an_embedded_hub_takes_another(hub: Caller, tmp_path: Path) -> None:
    """A hub of its own refuses with the port in its text; an embedded one tells its port by the folder."""
    port = int(hub.address.url.rpartition(":")[2])

    with pytest.raises(ConfigurationError, match=f"{port}.*in use.*--port"):
        Hub(HubConfig(state_dir=tmp_path / "own", port=port)).start()
    with running_hub(tmp_path / "embedded", port=port, embedded=True) as other:
        assert other.address.url != hub.address.url
        assert other.ask("GET", "/livez").status == 200
        first = other.address.url
    with running_hub(tmp_path / "embedded", port=port, embedded=True) as again:
        assert again.address.url == first


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "::", "hub.example"])  # noqa: S104 - to be refused
def test_another_address_than_loopback_needs_a_word(tmp_path: Path, host: str) -> None:
    """Nothing is opened to others by mistake."""
    with pytest.raises(ConfigurationError, match=host):
        Hub(HubConfig(state_dir=tmp_path, host=host, port=0)).start()


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """After a damaged ledger was refused the folder is free, and the next start says the same."""
    (tmp_path / DATABASE).write_bytes(b"no database at all, but long enough to be looked at" * 100)

    before = set(threading.enumerate())

    for _ in range(2):
        with pytest.raises(StoreError):
            Hub(HubConfig(state_dir=tmp_path, port=0)).start()

    # Threads of others may end meanwhile.
    wait_until(lambda: set(threading.enumerate()) <= before, what="no thread is left")


def test_a_restart_meets_its_old_callers(tmp_path: Path) -> None:
    """Keys, keysets, the network's port, tokens and tasks are there as before."""
    with running_hub(tmp_path) as first:
        document = first.ask("GET", "/api/v1/cdm").json
        first.connect()
        token = first.consumer()["accessToken"]
        task_id = first.submit(token)

    with running_hub(tmp_path) as second:
        again = second.ask("GET", "/api/v1/cdm").json
        row = second.ask("GET", f"/api/v1/tasks/{task_id}", bearer=token)

    assert second.key == first.key
    assert [again[name] for name in ("playground", "network", "origin")] == [
        document[name] for name in ("playground", "network", "origin")
    ]
    assert (row.status, row.json["state"]) == (200, "pending")


def test_an_expired_token_is_refreshed(tmp_path: Path) -> None:
    """[G1] After its life and the leeway a token is refused with a code that says so; the pair behind it is good."""
    clock = SetClock()
    with running_hub(tmp_path, clock=clock) as caller:
        first = caller.consumer()
        clock.ahead = 3600 + 61

        expired = caller.ask("GET", "/api/v1/tasks", bearer=first["accessToken"])
        pair = caller.ask(
            "POST", "/api/v1/auth/agent/refresh", {"refreshToken": first["refreshToken"]}, bearer=caller.key
        ).json
        renewed = caller.ask("GET", "/api/v1/tasks", bearer=pair["accessToken"])

    assert (expired.status, expired.code, renewed.status) == (401, "TokenExpired", 200)


def test_a_hub_with_a_certificate_speaks_tls_only(tmp_path: Path) -> None:
    """With a certificate the address is https, and clear text is not answered."""
    cert, key = certificate(tmp_path)
    with running_hub(tmp_path / "hub", tls_cert=cert, tls_key=key) as caller:
        caller.pool = urllib3.PoolManager(retries=NO_RETRY, ca_certs=str(cert))
        document = caller.ask("GET", "/api/v1/cdm").json
        with pytest.raises(urllib3.exceptions.HTTPError):
            caller.pool.request("GET", document["hubUrl"].replace("https", "http") + "/livez", timeout=10.0)

    assert document["hubUrl"].startswith("https://127.0.0.1:")


def test_a_restart_publishes_again_what_may_be_unsaid(tmp_path: Path) -> None:
    """[R5] Events stored after the last saved place are on the new network, whose memory was empty. [E18]"""
    with running_hub(tmp_path) as first:
        consumer = first.consumer()
        instance = first.connect()["accessToken"]
        first.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
        task_id = first.submit(consumer["accessToken"])
        first.run(instance, task_id)
    _forget_published(tmp_path)

    with running_hub(tmp_path) as second:
        keys = second.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
        path = f"/v2/subscribe/{keys}/{consumer['sessionChannel']}/0?tt=1"
        heard = _ask_network(second, f"{path}&uuid={consumer['sessionChannel'][8:]}&auth={consumer['pamToken']}")

    assert [body["type"] for message in heard.json["m"] for body in message["d"]["b"]] == ["terminal"]


def test_control_messages_go_on_counting_when_the_clock_was_set_back(tmp_path: Path) -> None:
    """[R10] A hub that starts in its own past numbers on, or workers would take all it says for replays."""
    clock = SetClock()
    with running_hub(tmp_path, clock=clock) as first:
        instance = first.connect()
        before = _numbers_of_probes(first, instance)
    clock.ahead = -30
    with running_hub(tmp_path, clock=clock) as second:
        after = _numbers_of_probes(second, instance)

    assert min(after) > max(before)


def _numbers_of_probes(hub: Caller, instance: dict[str, Any]) -> list[int]:
    """Beat, and return the numbers of the control messages that are on the network."""
    assert hub.ask("POST", "/api/v1/heartbeats", {}, bearer=instance["accessToken"]).status == 200
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    path = f"/v2/subscribe/{keys}/{instance['controlChannel']}/0?tt=1&uuid=echo-1&auth={instance['pamToken']}"
    heard = _ask_network(hub, path).json
    return [body["sequence"] for message in heard["m"] for body in message["d"]["b"]]


def _forget_published(folder: Path) -> None:
    from blocks_worker.concurrency import Clock
    from blocks_worker.hub.store.store import Store

    store = Store(folder / DATABASE, clock=Clock())
    store.open()
    store.write(lambda ledger: ledger.save_published(0)).result(5)
    store.close(Deadline(5))


def test_stop_answers_what_is_asked_and_is_quick_with_held_polls(tmp_path: Path) -> None:
    """A poll that is held and a caller that stalls do not hold up the end."""
    with running_hub(tmp_path) as caller:
        consumer = caller.consumer()
        keys = caller.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
        session = consumer["sessionChannel"]
        path = f"/v2/subscribe/{keys}/{session}/0?tt=99999999999999999&uuid={session[8:]}&auth={consumer['pamToken']}"
        polls = [threading.Thread(target=_ask_quietly, args=(caller, path)) for _ in range(3)]
        for poll in polls:
            poll.start()
        deadline = Deadline(10)

    assert not deadline.expired()
    for poll in polls:
        poll.join(5)


def _ask_quietly(hub: Caller, path: str) -> None:
    try:
        _ask_network(hub, path)
    except urllib3.exceptions.HTTPError:
        return


# ------------------------------------------------------------------------------------------------ process
class _Process:
    """Be a real `blocks-hub`."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = str(Path(sys.executable).with_name("blocks-hub"))
        command = [program, "--state-dir", str(folder), "--port", "0", *options]
        self.folder = folder
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def caller(self) -> Caller:
        """Wait until it answers and return a caller of it."""

        def mine() -> LocalHub | None:
            assert self.process.poll() is None, self.process.communicate()
            found = StateFolder(self.folder).discovered()
            return found if found is not None and found.pid == self.process.pid else None

        return Caller(wait_until(mine, timeout=90, what="the hub answers"), StateFolder(self.folder).local_key())

    def end(self, number: int) -> tuple[int, str, str]:
        """Send a signal; return exit code and what was said."""
        os.kill(self.process.pid, number)
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_cleanly(tmp_path: Path, number: int) -> None:
    """`blocks-hub` says where it listens, and exits 0 at SIGTERM and SIGINT."""
    process = _Process(tmp_path)
    caller = process.caller()

    code, out, _ = process.end(number)
    caller.pool.clear()

    assert code == 0
    assert f"[hub] listening on {caller.address.url}" in out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--host", "192.0.2.1"], 1, "[hub] 192.0.2.1 can be reached by others"),
        (["--tls-cert", "nowhere.pem"], 1, "[hub] TLS needs both"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem"], 1, "[hub] certificate or key cannot be used"),
        (["--port", "70000"], 2, "Usage"),
        (["--version"], 0, ""),
    ],
)
def test_the_command_says_what_to_mend(tmp_path: Path, options: list[str], code: int, said: str) -> None:
    """What stands in the way of a start is one line, with an exit code that tells which kind it is."""
    process = _Process(tmp_path, *options)

    _, err = process.process.communicate(timeout=90)

    assert process.process.returncode == code
    assert said in err
    assert "Traceback" not in err


def test_a_second_command_on_the_folder_exits_78(tmp_path: Path) -> None:
    """[E7] One line says what is wrong and what to do."""
    with running_hub(tmp_path):
        second = _Process(tmp_path)
        _, err = second.process.communicate(timeout=90)

    assert second.process.returncode == 78
    assert err.startswith("[hub] another hub runs on the state folder")
    assert f"(process {os.getpid()}; a worker may have it inside)" in err


def test_a_killed_hub_has_every_task_that_it_acknowledged(tmp_path: Path) -> None:
    """[E1] kill -9 in the middle of submits: what was answered 201 is there after the restart."""
    process = _Process(tmp_path)
    first = process.caller()
    first.connect()
    token = first.consumer()["accessToken"]
    taken: list[str] = []

    def submit() -> None:
        try:
            while True:
                answered = first.ask("POST", "/api/v1/tasks", [{"agentName": "echo"}] * 5, bearer=token)
                taken.extend(item["body"]["taskId"] for item in answered.json)
        except urllib3.exceptions.HTTPError:
            return

    callers = [threading.Thread(target=submit) for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(taken) > 100, timeout=60, what="a hundred tasks are taken in")
    process.end(signal.SIGKILL)
    for caller in callers:
        caller.join(20)
    first.pool.clear()

    with running_hub(tmp_path) as second:
        queries = [{"taskId": task_id} for task_id in taken]
        statuses = [
            item["status"]
            for start in range(0, len(queries), 256)
            for item in second.ask("POST", "/api/v1/events", queries[start : start + 256], bearer=token).json
        ]

    assert statuses == [200] * len(taken)
