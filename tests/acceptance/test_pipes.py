"""Pipes and pauses with real processes: killed workers, ends of time, drains, and a hub that restarts meanwhile."""

import json
import os
import queue
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from acceptance.conftest import World
from support import wait_until

from blocks_worker.client.client import TaskClient
from blocks_worker.client.session import TaskSession
from blocks_worker.client.session_streams import DRAIN_WINDOW
from blocks_worker.streams.trouble import StreamError

Open = Callable[[], TaskClient]


def returned(session: TaskSession) -> None:
    """Wait until the handler of a pipe has returned, by its artifact."""
    wait_until(lambda: len(session.list_artifacts()) == 1, 20, what="the return of the handler")


def types(session: TaskSession) -> list[str]:
    """Return what the session showed, in short."""
    return [event.raw.get("streamEvent") or event.status or event.type for event in session.list_events()]


def test_a_pipe_ends_with_its_killed_worker(world: World, client: Open) -> None:
    """[D-13] Kill -9 while the handler works, and after it has returned: both fail, a reader learns it soon. [J26]"""
    world.hub()
    worker = world.worker("handlers:pipe", "--concurrency", "2")
    consumer = client()
    sessions = [
        consumer.send_message(agent_name="pipe", request_parts=text, task_kind="pipe", duration=5)
        for text in ("stay", "go")
    ]
    returned(sessions[1])
    stream = sessions[1].wait_for_stream(timeout=20).open()
    lines, errors = stream.bytes(), queue.SimpleQueue[StreamError]()
    stream.on_error(errors.put)
    # Pieces that meet travel together.
    first = next(lines)
    assert first.startswith(b"1\n")
    wait_until(lambda: len(world.notes("start")) == 2, what="both handlers")
    wait_until(lambda: [session.state for session in sessions] == ["running", "running"], what="both states")

    worker.kill()
    world.worker("handlers:pipe")
    for session in sessions:
        event = session.wait_for_terminal(timeout=60)
        assert (event.state, event.error, event.error_code) == ("failed", "lease_lost", "lease_lost")
    told = time.monotonic()
    read = (first + b"".join(lines)).split()
    assert time.monotonic() - told < DRAIN_WINDOW / 3
    assert read == [b"%d" % number for number in range(1, len(read) + 1)]
    categories = iter(lambda: errors.get(timeout=30).category, "other")
    assert set(categories) <= {"connected", "network_issues", "reconnected"}
    assert len(world.notes("start")) == 2


def test_a_pipe_is_over_when_its_time_is(world: World, client: Open) -> None:
    """[R-26] Its stream is ended, then the task: completed, because its duration is over; the writer was told. [J26]"""
    world.hub()
    worker = world.worker("handlers:pipe", "--no-local")
    # No process has to start in the time that is left, and none has begun when that is set.
    os.kill(worker.process.pid, signal.SIGSTOP)
    session = client().send_message(agent_name="pipe", request_parts="go", task_kind="pipe", duration=1)
    _expires_in(Path(world.environment["BLOCKS_STATE_DIR"]), 15)
    os.kill(worker.process.pid, signal.SIGCONT)
    returned(session)
    assert session.state == "running"
    event = session.wait_for_terminal(timeout=60)

    assert (event.state, event.completion_reason, event.error) == ("completed", "duration_expired", None)
    assert types(session)[-2:] == ["stream_ended", "terminal"]
    wait_until(lambda: world.notes("expired"), what="the end of the writer")


def _expires_in(folder: Path, seconds: float) -> None:
    """Let the time of every pipe be over then: the least that can be asked for is a minute."""
    (ledger,) = folder.rglob("hub.sqlite3")
    with sqlite3.connect(ledger, timeout=30) as database:
        database.execute("UPDATE task SET expires_at = ?", (int((time.time() + seconds) * 1000),))
    database.close()


def test_a_pipe_ends_with_the_drain_of_its_worker(world: World, client: Open) -> None:
    """[D-13] After SIGTERM an open pipe is not waited for: stream ended, canceled, drained, exit code 0. [J26]"""
    world.hub()
    worker = world.worker("handlers:pipe")
    session = client().send_message(agent_name="pipe", request_parts="go", task_kind="pipe", duration=5)
    returned(session)

    assert worker.terminate(60) == 0
    event = session.wait_for_terminal(timeout=30)
    assert (event.state, event.reason) == ("canceled", "drained")
    assert types(session)[-2:] == ["stream_ended", "terminal"]


def test_an_open_pipe_outlives_a_restart_of_the_hub(world: World, client: Open) -> None:
    """[D-13] Kill -9 of the hub ends no pipe: the worker holds it until the hub is back, and then a cancel ends it."""
    hub = world.hub()
    world.worker("handlers:pipe", "--no-local")
    session = client().send_message(agent_name="pipe", request_parts="go", task_kind="pipe", duration=5)
    returned(session)
    hub.kill()
    world.hub()
    session.cancel("enough")

    event = session.wait_for_terminal(timeout=60)
    assert (event.state, event.reason) == ("canceled", "enough")
    assert len(world.notes("start")) == 1


def test_a_pause_outlives_a_restart_of_the_hub(world: World, client: Open) -> None:
    """[R-57] The handler waits while the hub is away and after; what waited in the queue is given to nobody."""
    hub = world.hub()
    world.worker("handlers:obey", "--no-local")
    consumer = client()
    session = consumer.send_message(agent_name="obey", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")
    consumer.pause_task(session.task_id)
    wait_until(lambda: session.state == "paused", 20, what="the pause")
    # The slot is free: another task runs beside the one that waits.
    second = consumer.send_message(agent_name="obey", request_parts="y")
    wait_until(lambda: len(world.notes("start")) == 2, 20, what="the second run")
    queued = consumer.send_message(agent_name="obey", request_parts="z")
    assert consumer.pause_task(queued.task_id) == "paused"

    hub.kill()
    world.hub()
    assert consumer.get_task(session.task_id).state == "paused"
    world.open_gate()
    assert second.wait_for_terminal(timeout=60).state == "completed"
    wait_until(lambda: (session.state, queued.state) == ("paused", "paused"), what="both states")

    assert consumer.resume_task(queued.task_id) == "pending"
    consumer.resume_task(session.task_id)
    assert session.wait_for_terminal(timeout=60).state == "completed"
    assert queued.wait_for_terminal(timeout=60).state == "completed"
    assert [word for word in types(session) if word in {"paused", "resumed"}] == ["paused", "resumed"]


def test_pause_and_resume_at_the_command_line(world: World, client: Open) -> None:
    """[R-57] `blocks pause` and `blocks resume` turn the flag and say how the task stands; `blocks tasks` lists it."""
    world.worker("handlers:obey")
    session = client().send_message(agent_name="obey", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    done = world.run("blocks", "pause", session.task_id)
    assert done.returncode == 0, done.stderr
    assert session.task_id in done.stdout
    wait_until(lambda: session.state == "paused", 20, what="the pause")
    done = world.run("blocks", "pause", session.task_id, "--json")
    assert json.loads(done.stdout) == {"taskId": session.task_id, "state": "paused"}
    done = world.run("blocks", "tasks", "--state", "paused", "--json")
    assert [row["taskId"] for row in json.loads(done.stdout)] == [session.task_id]

    assert world.run("blocks", "resume", session.task_id).stdout == f"task {session.task_id} is to go on\n"
    world.open_gate()
    assert session.wait_for_terminal(timeout=60).state == "completed"
    assert (
        world.run("blocks", "pause", session.task_id).stdout == f"task {session.task_id} was over before: completed\n"
    )
