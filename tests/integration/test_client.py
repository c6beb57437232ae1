"""The task client against a real hub and its network; the worker's side is driven over bare HTTP."""

from __future__ import annotations

import base64
import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun, Caller, running_hub

from blocks_worker.client.client import TaskClient
from blocks_worker.client.creating import create_task_client
from blocks_worker.client.subscribed import TaskEventCallbacks
from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.config import state_dir
from blocks_worker.errors import (
    AgentAuthFatalError,
    BillingModeMismatchError,
    HubUnavailableError,
    RpcError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUNNING = {"type": "progress", "progress": 0, "state": "running"}


def artifact(data: bytes, name: str | None = None) -> dict[str, Any]:
    """Return a worker's artifact event."""
    ref = {"kind": "inline", "mimeType": "text/plain", "size": len(data), "data": base64.b64encode(data).decode()}
    return {"type": "artifact", "artifactRef": {**ref, **({"fileName": name} if name else {})}}


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


def connected(hub: Caller) -> str:
    """Connect an instance of echo with room for 8 and return its token."""
    token = hub.connect(concurrency=8, billingMode="free", listing="public")["accessToken"]
    nonce = hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=token).json["nonce"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 8, "nonce": nonce}, bearer=token)
    return str(token)


@pytest.fixture
def instance(hub: Caller) -> str:
    """Connect an instance of echo with room for 8 and return its token."""
    return connected(hub)


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Create a client of the local hub."""
    with TaskClient.create("free") as made:
        yield made


def test_echo(hub: Caller, instance: str, client: TaskClient, tmp_path: Path) -> None:
    """[A] [D-7] Events come in order, also to late callbacks, and the result can be read, listed and saved."""
    session = client.send_message("echo", "hi")
    heard: list[str] = []
    session.on_event(lambda event: heard.append(f"every {event.type}"))
    session.on_progress(lambda event: heard.append(f"progress {event['state']}"))
    session.on_artifact(lambda _event: heard.append("artifact"))
    session.on_terminal(lambda event: heard.append(f"terminal {event.state}"))
    hub.run(instance, session.task_id, RUNNING, artifact(b"hi", "../a.txt"))

    assert session.wait_for_terminal(10).state == session.state == "completed"
    wait_until(lambda: session.is_closed, what="callbacks told")
    assert heard == [
        "every progress", "progress running", "every artifact", "artifact", "every terminal", "terminal completed",
    ]  # fmt: skip
    assert (
        [event.type for event in session]
        == ["progress", "artifact", "terminal"]
        == [event.type for event in session.list_events()]
    )
    assert session.text() == "hi"
    assert [path.name for path in session.save_artifacts(tmp_path)] == ["a.txt"]
    late: list[str] = []
    for register in (session.on_progress, session.on_artifact, session.on_terminal):
        register(lambda event: late.append(event.type))
    wait_until(lambda: late == ["progress", "artifact", "terminal"], what="replays")


def test_same_key_gives_the_whole_task(hub: Caller, instance: str, client: TaskClient) -> None:
    """[3.4] A finished task found by its key gives a complete, closed session; another body is refused."""
    first = client.send_message(agent_name="echo", request_parts="hi", idempotency_key="k")
    hub.run(instance, first.task_id, RUNNING, artifact(b"hi"))
    first.wait_for_terminal(10)
    again = client.send_message(agent_name="echo", request_parts="hi", idempotency_key="k")

    assert (again.task_id, again.idempotent, again.is_closed, again.text(0)) == (first.task_id, True, True, "hi")
    with pytest.raises(RpcError) as caught:
        client.send_message(agent_name="echo", request_parts="ho", idempotency_key="k")
    assert caught.value.code == "IdempotencyConflict"


def test_cancel_before_anybody_runs_it(client: TaskClient, instance: str, hub: Caller) -> None:
    """[P6] A task that waits is cancelled at once; asking again changes nothing and says so."""
    blocked = [client.send_message("echo", "x") for _ in range(9)][-1]
    assert blocked.queued
    with pytest.raises(TimeoutError, match="queued"):
        blocked.wait_for_terminal(0.05)

    assert blocked.cancel("enough")
    terminal = blocked.wait_for_terminal(10)

    assert (terminal.state, terminal.reason, blocked.cancel()) == ("canceled", "enough", False)
    assert client.cancel_task(blocked.task_id) == client.terminate_task(blocked.task_id) == "canceled"
    with pytest.raises(TaskFailedError) as caught:
        blocked.result(0)
    assert caught.value.event is terminal


def test_close_wakes_waiters(client: TaskClient, instance: str) -> None:
    """[3.7] Closing from another thread ends a wait at once with RuntimeError, and iteration without one."""
    session = client.send_message("echo", "x")
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(session.wait_for_terminal, None)
        iterates = pool.submit(list, session)
        wait_until(lambda: session._changed is not None, what="somebody waits")
        session.close()

        with pytest.raises(RuntimeError, match="closed"):
            waits.result(30)
        assert iterates.result(30) == []
    session.close()


def test_a_callback_must_not_wait(hub: Caller, instance: str, client: TaskClient) -> None:
    """[D-12] A wait inside a callback raises at once; the error reaches `on_error` with its place. [C16]"""
    session = client.send_message("echo", "x")
    errors: list[tuple[str, str]] = []
    answered: list[str] = []
    session.on_error(lambda error, where: errors.append((type(error).__name__, where.callback_type)))
    other = client.send_message("echo", "y")
    session.on_progress(lambda _event: other.wait_for_terminal(30))
    session.on_terminal(lambda _event: answered.append(session.wait_for_terminal(30).type))
    hub.run(instance, session.task_id, RUNNING)

    wait_until(lambda: answered == ["terminal"], what="the answerable wait")
    assert errors == [("RuntimeError", "onProgress")]


def test_many_threads_share_requests(hub: Caller, instance: str, client: TaskClient) -> None:
    """[S] Eight threads send and get each its own result."""

    def one(number: int) -> str:
        session = client.send_message("echo", f"text {number}")
        hub.run(instance, session.task_id, RUNNING, artifact(f"text {number}".encode()))
        return session.text(20)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [f"text {number}" for number in range(8)]


def test_lists(hub: Caller, instance: str, client: TaskClient) -> None:
    """Tasks are shown newest first, page by page, and one by one; a foreign id is not found."""
    ids = [client.send_message("echo", "x").task_id for _ in range(3)]
    page = client.list_tasks(ListTasksParams(limit=2))
    rest = client.list_tasks(ListTasksParams(limit=2, cursor=page.next))

    assert [task.task_id for task in [*page.tasks, *rest.tasks]] == ids[::-1]
    assert client.get_task(ids[0]).agent_name == "echo"
    assert client.get_agent_card("nobody") is None
    with pytest.raises(RpcError) as caught:
        client.get_task("nothing")
    assert (caught.value.code, caught.value.status) == ("NotFound", 404)


def test_wrong_mode_and_key(hub: Caller, instance: str) -> None:
    """A client in the other mode is told both modes; a key that nobody gave out is refused for good."""
    with TaskClient.create("paid") as paid, pytest.raises(BillingModeMismatchError) as caught:
        paid.send_message("echo", "x")
    assert (caught.value.expected, caught.value.got) == ("free", "paid")
    with pytest.raises(AgentAuthFatalError):
        TaskClient.create("free", api_key="bk_" + "0" * 40)


def test_hub_restart_in_the_middle() -> None:
    """[P1] A session outlives its hub: what happened after the restart arrives, and the submit was kept."""
    with running_hub(state_dir()) as hub:
        client = TaskClient.create("free")
        hub.connect(billingMode="free")
        session = client.send_message("echo", "x")
        port = int(hub.address.url.rpartition(":")[2])
    with client, running_hub(state_dir(), port=port) as hub:
        hub.connect(billingMode="free", incarnation="echo-life-2")
        client.cancel_task(session.task_id)

        assert session.wait_for_terminal(30).state == "canceled"


def test_nobody_there() -> None:
    """Without a hub the error names both ways to start one; without a key the simple way in names the variable."""
    with pytest.raises(HubUnavailableError, match=r"(?s)blocks-run.*blocks-hub"):
        TaskClient.create("free")
    with pytest.raises(KeyError, match="BLOCKS_API_KEY"):
        create_task_client(cdm_url="https://hub.invalid/api/v1/cdm")
    with pytest.raises(TypeError, match="mood"):
        create_task_client(mood=1)


def test_destroy(hub: Caller, instance: str) -> None:
    """[R-33] Destroying closes the sessions, wakes who waits, ends every thread, and the client is of no use after."""
    client = create_task_client()
    session = client.send_message("echo", "x")
    session.on_event(lambda _event: None)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(session.wait_for_terminal, None)
        wait_until(lambda: session._changed is not None, what="somebody waits")
        client.destroy()
        client.destroy()
        with pytest.raises(RuntimeError):
            waits.result(30)

    ours = ("client-", "token-refresh", "pubnub-reader")
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith(ours)], what="threads ended")
    with pytest.raises(RuntimeError, match="destroyed"):
        client.send_message("echo", "x")


def test_forgotten_client_lets_go(hub: Caller, instance: str) -> None:
    """A client that nobody holds any more ends its threads by itself; an open session keeps it."""
    session = TaskClient.create("free").send_message("echo", "x")
    gc.collect()
    hub.run(instance, session.task_id, RUNNING, artifact(b"x"))
    assert session.text(10) == "x"
    del session
    gc.collect()

    names = ("client-events", "token-refresh")
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name in names], timeout=20, what="threads ended"
    )


SCRIPT = """
from blocks_worker.client.client import TaskClient
client = TaskClient.create("free")
session = client.send_message("echo", "x")
session.on_event(print)
print("sent", flush=True)
"""


def test_a_process_ends_with_a_client_open(hub: Caller, instance: str) -> None:
    """A process that never destroys its client ends all the same."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=90, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "sent\n", "")


WITHOUT_LOGGING = """
import sys
from blocks_worker import TaskClient

def fail(event):
    raise LookupError("of the script")

client = TaskClient.create("free", timeout=6)
session = client.send_message("echo", "x")
session.on_artifact(fail)
print(session.task_id, flush=True)
sys.stdin.readline()
for act in (lambda: session.wait_for_terminal(2), client.list_tasks):
    try:
        act()
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def test_a_script_without_logging_hears_of_trouble_by_exceptions(tmp_path: Path) -> None:
    """[R-25] When the hub goes its calls say so; standard error has what its callback raised, and no bare words."""
    errors, command = tmp_path / "errors", [sys.executable, "-c", WITHOUT_LOGGING]
    with ExitStack() as there, errors.open("wb") as to:
        hub = there.enter_context(running_hub(state_dir()))
        token = connected(hub)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=to, text=True) as process:
            try:
                assert process.stdout is not None
                BareRun(hub, token, process.stdout.readline().strip()).say(RUNNING, artifact(b"x"))
                wait_until(lambda: "LookupError" in errors.read_text(), what="the callback's exception")
                there.close()
                told, _ = process.communicate("\n", timeout=60)
            finally:
                process.kill()
    written = errors.read_text()

    assert told.split() == ["TimeoutError", "HubUnavailableError"]
    assert written.count("WARN  callback_failed callback=onArtifact") == 1
    assert "  | LookupError: of the script" in written
    assert {line[:4] for line in written.splitlines()[1:]} == {"  | "}


def test_interrupt_ends_a_wait(hub: Caller, instance: str) -> None:
    """[3.7] Ctrl-C ends a wait."""
    # Whoever starts the tests in the background may have left Ctrl-C ignored, and a child inherits that.
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = listens + SCRIPT + "session.wait_for_terminal(None)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sent\n"
        os.kill(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors


def test_login_that_began_anew(hub: Caller, instance: str, client: TaskClient) -> None:
    """A client whose login got another channel listens there, and its events arrive."""
    client._core._poll = 1000.0  # seconds: no poll brings them
    client.send_message("echo", "x")
    login = client._core.login
    old = login.session_channel
    login._keeper.use(login._acquire())
    assert login.session_channel != old
    wait_until(lambda: client._core._subscriptions._listened == login.session_channel, what="it follows")

    session = client.send_message("echo", "y")
    hub.run(instance, session.task_id, RUNNING, artifact(b"y"))

    assert session.text(30) == "y"


@pytest.mark.parametrize(("task_id", "error"), [(None, TypeError), (5, TypeError), ("", ValueError)])
def test_what_can_be_no_task_is_told_in_words(client: TaskClient, task_id: Any, error: type[Exception]) -> None:
    """Every call that takes a task's id says which it wants."""
    calls: list[Callable[[Any], object]] = [
        client.get_task, client.cancel_task, client.terminate_task, client.pause_task, client.resume_task,
        client.retry_task, client.connect, lambda given: client.subscribe_to_task(given, None, TaskEventCallbacks()),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(error, match=r"session\.task_id"):
            call(task_id)
