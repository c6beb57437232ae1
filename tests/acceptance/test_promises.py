"""Real processes are killed at the worst moment; what was accepted is completed all the same."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance.conftest import World
from support import wait_until

from blocks_worker.client.client import TaskClient
from blocks_worker.errors import BillingModeMismatchError
from blocks_worker.protocol.registry import InstanceRow

Open = Callable[[], TaskClient]

#: Seconds in which a hub knows who is gone, as his process is: by his silence it would after thirty-five.
PRESENT = 20.0

#: Over the network, and over links to the hub.
BOTH = pytest.mark.parametrize("world", ["pubnub", "hublink"], indirect=True)


@BOTH
def test_a_killed_workers_task_is_completed_by_another(world: World, client: Open) -> None:
    """Kill -9 in mid-task: a second worker runs it again, the session sees one terminal. [P1, P3, P4, D1, R-12, D-2]"""
    world.hub()
    first = world.worker("handlers:hold")
    terminals: list[str] = []
    session = client().send_message(agent_name="hold", request_parts="x")
    session.on_terminal(lambda event: terminals.append(event.state))
    wait_until(lambda: world.notes("start"), what="the first run")
    world.worker("handlers:hold")

    first.kill()
    wait_until(lambda: len(world.notes("start")) == 2, timeout=60, what="the second run")
    world.open_gate()
    event = session.wait_for_terminal(timeout=60)

    runs = world.notes("start")
    assert event.state == "completed", event
    assert session.text() == "done: x"
    assert client().get_task(session.task_id).state == "completed"
    wait_until(lambda: session.is_closed, what="the last callback")
    assert terminals == ["completed"]
    assert len({pid for _, _, _, pid, _ in runs}) == 2
    assert {task for _, task, _, _, _ in runs} == {session.task_id}


def test_a_killed_worker_leaves_the_steps_it_had_done(world: World, client: Open) -> None:
    """Kill -9 between two steps: the second run is given what the first one stored, and does only the rest. [J19]"""
    world.hub()
    first = world.worker("handlers:stepwise")
    session = client().send_message(agent_name="stepwise", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the first run is behind its first step")
    second = world.worker("handlers:stepwise")

    first.kill()
    world.open_gate()

    assert session.text(60) == f"{first.process.pid} {second.process.pid}"
    assert [len(world.notes(word)) for word in ("first", "start", "second")] == [1, 2, 1]


@BOTH
def test_a_killed_hub_comes_back_and_the_task_completes(world: World, client: Open) -> None:
    """Kill -9 of the hub between submit and result loses nothing, and the task runs once. [P1] [E1] [B14]"""
    hub = world.hub()
    world.worker("handlers:hold", "--no-local")  # else it would take the dead hub's place
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    hub.kill()
    world.open_gate()
    wait_until(lambda: world.notes("end"), what="the end of the handler")
    world.hub()
    event = session.wait_for_terminal(timeout=60)

    assert event.state == "completed"
    assert session.text() == "done: x"
    assert len(world.notes("start")) == 1


def test_a_task_accepted_without_a_worker_waits_for_one(world: World, client: Open) -> None:
    """With no live instance the task waits and says so; a restart of the hub in between changes nothing. [P1]"""
    hub = world.hub()
    world.worker("handlers:hold").terminate()
    session = client().send_message(agent_name="hold", request_parts="x")

    assert session.queued
    with pytest.raises(TimeoutError, match="queued"):
        session.wait_for_terminal(timeout=0.2)

    hub.kill()
    world.hub()
    world.open_gate()
    world.worker("handlers:hold")

    assert session.wait_for_terminal(timeout=60).state == "completed"


@BOTH
def test_when_the_process_with_the_local_hub_dies_another_takes_over(world: World, client: Open) -> None:
    """Two workers share one local hub; the one that runs it is killed, the other starts it on the same data. [P1]"""
    first = world.worker("handlers:hold", "--instance-id", "one")
    second = world.worker("handlers:hold", "--instance-id", "two")
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    first.kill()
    world.open_gate()
    event = session.wait_for_terminal(timeout=60)

    assert event.state == "completed"
    assert second.process.poll() is None


def test_cancel_reaches_a_handler_that_burns_the_cpu_beside_the_embedded_hub(world: World, client: Open) -> None:
    """One process is hub and worker, its handler spins: the lease lives and the cancel comes within a second. [P6]"""
    worker = world.worker("handlers:spin", "--concurrency", "2")
    session = client().send_message(agent_name="spin", request_parts="120")
    wait_until(lambda: world.notes("start"), what="the run")
    other = client().send_message(agent_name="spin", request_parts="8")

    assert other.wait_for_terminal(timeout=60).state == "completed"

    asked = time.time()
    session.cancel()
    event = session.wait_for_terminal(timeout=30)

    (cancelled,) = world.notes("cancelled")
    assert event.state == "canceled"
    assert len(world.notes("start")) == 2
    assert "lost" not in worker.text()
    # Heartbeats would bring it too, after three seconds in the middle: one of some comes in less.
    took = float(cancelled[4]) - asked
    for number in range(2, 7):
        if took < 1.0:
            break
        took = min(took, _until_cancelled(world, client(), number))
    assert took < 1.0


def _until_cancelled(world: World, here: TaskClient, number: int) -> float:
    """Cancel another task that burns the CPU; return how long the word was on its way."""
    session = here.send_message(agent_name="spin", request_parts="120")
    wait_until(lambda: len(world.notes("start")) > number, what="the run")
    asked = time.time()
    session.cancel()
    assert session.wait_for_terminal(timeout=30).state == "canceled"
    return float(world.notes("cancelled")[-1][4]) - asked


@pytest.mark.long
def test_a_spinning_handler_costs_no_lease_in_thirty_seconds(world: World, client: Open) -> None:
    """The same for the whole of a lease: one run, no loss. [P8]"""
    worker = world.worker("handlers:spin")
    session = client().send_message(agent_name="spin", request_parts="32")

    assert session.wait_for_terminal(timeout=90).state == "completed"
    assert len(world.notes("start")) == 1
    assert "lost" not in worker.text()


def test_sigterm_lets_running_tasks_finish(world: World, client: Open) -> None:
    """A drained worker finishes what it holds and exits 0. [P7] [D4] [R-31, D-6]"""
    world.hub()
    worker = world.worker("handlers:hold")
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    worker.process.terminate()
    worker.wait_for("SIGTERM received")
    world.open_gate()

    assert worker.process.wait(60) == 0
    assert session.wait_for_terminal(timeout=60).state == "completed"


def test_a_hung_handler_does_not_delay_the_exit(world: World, client: Open) -> None:
    """Past the drain deadline a handler that ignores everything is given back and left behind. [P7] [D7] [R-31]"""
    world.hub()
    worker = world.worker("handlers:hang", "--drain-timeout", "1")
    session = client().send_message(agent_name="hang", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    code = worker.terminate(timeout=1 + 5 + 20)

    assert code == 0
    assert session.state == "pending" or client().get_task(session.task_id).state == "pending"
    assert client().get_task(session.task_id).extra["attempt"] == 0


def test_a_second_signal_cancels_all(world: World, client: Open) -> None:
    """Whoever is in a hurry signals twice: handlers get their cancel and have five seconds. [D5]"""
    world.hub()
    worker = world.worker("handlers:hold", "--drain-timeout", "60")
    client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    worker.signal()
    worker.signal(2)

    assert worker.process.wait(30) == 0
    assert world.notes("cancelled")


def test_a_third_signal_ends_at_once(world: World, client: Open) -> None:
    """The third signal asks nobody any more. [D5]"""
    world.hub()
    worker = world.worker("handlers:hang", "--drain-timeout", "60")
    client().send_message(agent_name="hang", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    for count in (1, 2, 3):
        worker.signal(count)

    assert worker.process.wait(30) == 130
    assert worker.text().endswith("blocks-run: SIGTERM received a third time: ended at once\n")


def test_presence_follows_the_process(world: World, client: Open) -> None:
    """Instances are listed with load and room; none after SIGTERM, lost soon after kill -9. [P8]"""
    world.hub()
    worker = world.worker("handlers:hold", "--concurrency", "3")
    here = client()
    here.send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    (shown,) = world.agents()["hold"]
    assert (shown["activeTasks"], shown["concurrency"]) == (1, 3)

    worker.kill()
    wait_until(lambda: not _instances(here), timeout=PRESENT, what="the loss")

    world.open_gate()
    world.worker("handlers:hold").terminate()
    wait_until(lambda: not _instances(here), timeout=PRESENT, what="the end")


def _instances(here: TaskClient) -> list[InstanceRow]:
    """Return who serves the agent."""
    return here.api.agent("hold").instances


def test_several_instances_share_the_work(world: World, client: Open) -> None:
    """Two workers of one agent, one slot each: two tasks run at the same time, in two processes."""
    world.hub()
    world.worker("handlers:hold")
    world.worker("handlers:hold")
    sessions = [client().send_message(agent_name="hold", request_parts="x") for _ in range(2)]

    wait_until(lambda: len(world.notes("start")) == 2, what="both runs")
    world.open_gate()

    assert [session.wait_for_terminal(timeout=60).state for session in sessions] == ["completed"] * 2
    assert len({run[3] for run in world.notes("start")}) == 2


def test_cancel_while_queued_and_twice_and_after_the_end(world: World, client: Open) -> None:
    """A cancel before any lease ends the task at once; repeated, or after the end, it changes nothing. [B4] [B7]"""
    world.hub()
    world.worker("handlers:hold").terminate()
    session = client().send_message(agent_name="hold", request_parts="x")

    assert session.cancel()
    assert session.wait_for_terminal(timeout=10).state == "canceled"
    assert not session.cancel()
    assert client().cancel_task(session.task_id) == "canceled"

    world.worker("handlers:hold")
    assert not world.notes("start")


def test_without_the_local_hub_no_server_package_is_loaded(world: World, client: Open) -> None:
    """A worker under systemd imports neither a web server nor SQL."""
    world.hub()
    world.worker("handlers:modules", "--no-local")

    session = client().send_message(agent_name="modules", request_parts="x")
    session.wait_for_terminal(timeout=60)

    loaded = set(session.json())
    assert "pubnub" in loaded
    assert not loaded & {"starlette", "uvicorn", "sqlalchemy", "fastapi", "uvloop", "httptools"}


def test_artifacts_are_saved(world: World, client: Open, tmp_path: Path) -> None:
    """The echo's artifact lands in the folder that was asked for."""
    world.worker("echo")
    session = client().send_message(agent_name="echo", request_parts="Hello")
    session.wait_for_terminal(timeout=60)

    (path,) = session.save_artifacts(tmp_path / "out")

    assert Path(path).read_text() == "Echoed request: Hello"


def test_a_paid_agent_is_served_on_its_own_keyset(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's billing mode decides on which keys the hub speaks; its worker listens there."""
    world.hub()
    (world.folder / "register.py").write_text(
        "import sys, json, urllib.request\n"
        "from blocks_worker import TaskClient\n"
        "client = TaskClient.create('paid')\n"
        "body = json.dumps({'agentName': 'echo', 'billingMode': 'paid'}).encode()\n"
        "request = urllib.request.Request(sys.argv[1] + '/api/v1/registry/agents', body, method='POST')\n"
        "request.add_header('Authorization', 'Bearer ' + client._core.login.access_token())\n"
        "print(urllib.request.urlopen(request).status)\n"
    )
    registered = subprocess.run(
        [sys.executable, "register.py", world.environment["BLOCKS_HUB_URL"]],
        cwd=world.folder, env=world.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert registered.returncode == 0, registered.stderr
    world.worker("echo")
    for name in ("BLOCKS_STATE_DIR", "BLOCKS_HUB_URL"):
        monkeypatch.setenv(name, world.environment[name])

    with TaskClient.create("paid") as paid, TaskClient.create("free") as free:
        assert paid.run("echo", "Hello").text == "Echoed request: Hello"
        with pytest.raises(BillingModeMismatchError):
            free.send_message(agent_name="echo", request_parts="Hello")
