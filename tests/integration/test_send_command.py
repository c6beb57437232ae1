"""`blocks send` as it is typed, in this process: real hub and network; the worker's side is bare HTTP."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import BareRun, Caller, running_hub
from support_streams import in_background

from blocks_worker import TaskClient, TaskFailedError
from blocks_worker.cli.main import blocks
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

RUNNING = {"type": "progress", "progress": 0, "state": "running"}


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def instance(hub: Caller) -> str:
    """Connect an instance of echo and return its token."""
    token = str(hub.connect(concurrency=8, billingMode="free", listing="public")["accessToken"])
    hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=token)
    return token


def sent(*arguments: str) -> Result:
    """Type it."""
    return CliRunner().invoke(blocks, ["send", *arguments])


def serve(hub: Caller, instance: str, play: Callable[[BareRun], None]) -> Callable[[float], Any]:
    """Have the next task run so, beside the command; return what waits until it was."""

    def run() -> None:
        with TaskClient.create("free") as client:
            wait_until(lambda: client.list_tasks().tasks, what="a task")
            play(BareRun(hub, instance, client.list_tasks().tasks[0].task_id))

    return in_background(run)


def test_every_status_is_shown_in_order(hub: Caller, instance: str) -> None:
    """Each status text is a line, the last ones too, of a task that ends right after them."""

    def play(run: BareRun) -> None:
        run.say(RUNNING, *({"type": "progress", "message": f"step {number}"} for number in range(5)))
        run.end()

    done = serve(hub, instance, play)
    result = sent("echo", "x")

    assert done(10) is None
    assert (result.exit_code, result.stderr.splitlines()) == (0, [f"step {number}" for number in range(5)])


def test_a_script_gets_the_id_of_a_task_that_goes_on(instance: str) -> None:
    """With `--json` the end of the wait prints id and state, and the exit code says that the task goes on."""
    result = sent("echo", "x", "--timeout", "4", "--json")

    with TaskClient.create("free") as client:
        (task,) = client.list_tasks().tasks
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"taskId": task.task_id, "state": "pending"}
    assert "is not over after 4.0 s" in result.stderr


def test_who_wants_a_stream_is_told_how(hub: Caller, instance: str) -> None:
    """A task that failed because nobody asked for its stream says the flag by which one does."""
    error = "no stream is negotiated for this task: test ctx.has_stream first"
    done = serve(hub, instance, lambda run: run.end("failed", error=error, errorCode="handler_error"))
    result = sent("echo", "x")

    assert done(10) is None
    assert result.exit_code == 1
    assert result.stderr.endswith(f"{error}; send it with --stream\n")


def test_the_end_says_why_it_was_asked_for(hub: Caller, instance: str) -> None:
    """A task that was forced to end still says why it was asked to stop; one over its time, which time that was."""

    def play(run: BareRun) -> None:
        run.say(RUNNING)
        with TaskClient.create("free") as client:
            client.cancel_task(client.list_tasks().tasks[0].task_id, "bored")
        run.end("canceled", reason="forced")

    done = serve(hub, instance, play)
    forced = sent("echo", "x")
    assert done(10) is None
    with TaskClient.create("free") as client:
        task_id = client.list_tasks().tasks[0].task_id
    watched = CliRunner().invoke(blocks, ["watch", task_id])

    assert forced.stderr.endswith("canceled: forced (asked to stop: bored)\n")
    assert watched.stderr.endswith("canceled: forced (asked to stop: bored)\n")
    assert re.search(r"^\d\d:\d\d:\d\d terminal canceled forced$", watched.stdout, re.MULTILINE)


def test_the_end_says_which_time_was_over(hub: Caller, instance: str) -> None:
    """A task over a limit says which, on the command line and in the exception."""
    done = serve(
        hub, instance, lambda run: run.end("failed", error="timeout", errorCode="timeout", reason="max_runtime")
    )
    result = sent("echo", "x")
    assert done(10) is None
    with TaskClient.create("free") as client:
        session = client.connect(client.list_tasks().tasks[0].task_id)
        with pytest.raises(TaskFailedError, match="failed: timeout: over its max_runtime"):
            session.result(5)

    assert result.stderr.endswith("failed: timeout: over its max_runtime\n")


def test_the_last_failure_says_how_many_runs_there_were(hub: Caller, instance: str) -> None:
    """With `--retry` the end of a task that failed again and again counts the runs."""

    def play(run: BareRun) -> None:
        run.say(RUNNING)
        run.end("failed", error="no luck", errorCode="handler_error")
        with TaskClient.create("free") as client:
            task_id = client.list_tasks().tasks[0].task_id
        again: list[BareRun] = []

        def is_offered() -> bool:
            offers = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["offers"]
            again.extend(BareRun(hub, instance, task_id) for _ in offers)
            return bool(again)

        wait_until(is_offered, 20, "the second run")
        again[0].end("failed", error="no luck", errorCode="handler_error")

    done = serve(hub, instance, play)
    result = sent("echo", "x", "--retry", "2")

    assert done(30) is None
    assert result.stderr.endswith("failed: no luck (after 2 runs)\n")


def test_a_hub_that_hangs_is_bounded_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--timeout` ends the wait for one that listens and says nothing, and the words are not those of an empty port."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BLOCKS_CDM_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1/cdm")
        monkeypatch.setenv("BLOCKS_API_KEY", "bk_any")
        begun = time.monotonic()
        result = sent("echo", "x", "--timeout", "2")

    assert result.exit_code == 4
    assert "something listens there: it hangs" in result.stderr
    assert time.monotonic() - begun < 15


def test_what_holds_a_task_up_is_told(hub: Caller, instance: str) -> None:
    """A session says that its task waits for a worker or is paused, and nothing while it gets on."""
    with TaskClient.create("free") as client:
        session = client.send_message("echo", "x")
        first = session.held_up()
        run = BareRun(hub, instance, session.task_id)
        run.say(RUNNING)
        wait_until(lambda: session.held_up() is None, what="it runs")
        client.pause_task(session.task_id)
        run.say({"type": "system", "status": "paused"})
        wait_until(lambda: session.held_up() == "paused", what="it is paused")

    assert first is not None
    assert first.startswith("queued")
