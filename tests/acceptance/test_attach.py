"""A task is joined from another process, while it runs and after its end."""

import json
import re
import signal
from collections.abc import Callable

from acceptance.conftest import World
from support import wait_until

from blocks_worker.client.client import TaskClient

Open = Callable[[], TaskClient]

SCRIPT = """
import sys
from blocks_worker import TaskClient
with TaskClient.create("free") as client, client.connect(task_id=sys.argv[1]) as session:
    print("joined", session.state, flush=True)
    print(session.wait_for_terminal(60).state, session.text())
"""

SENDER = """
from blocks_worker import TaskClient
with TaskClient.create("free") as client, client.send_message(agent_name="show", request_parts="x") as session:
    print("sent", session.task_id, flush=True)
    session.wait_for_terminal(60)
"""


def test_a_second_process_goes_on_where_the_first_was_killed(world: World, client: Open) -> None:
    """[A-10, R-16] State and artifacts of before are there, and what happens from then on comes live."""
    world.hub()
    world.worker("handlers:show")
    first = world.start("python", "-c", SENDER)
    first.wait_for("sent ")
    wait_until(lambda: world.notes("start"), what="the run")
    # The line comes piece by piece.
    task_id = wait_until(lambda: re.search(r"^sent (\S+)\n", first.text()), what="the whole line")[1]
    first.kill()

    with client().connect(task_id=task_id) as session:
        state = session.state
        wait_until(session.list_artifacts, what="the artifact that was published before")
        early = [session.download_artifact(ref).data for ref in session.list_artifacts()]
        live: list[str] = []
        session.on_event(lambda event: live.append(event.message or event.type))
        world.open_gate()
        terminal = session.wait_for_terminal(60)
        wait_until(lambda: "terminal" in live, what="the last callback")
        late = [session.download_artifact(ref).data for ref in session.list_artifacts()]

    assert (state, early) == ("running", [b"early"])
    assert (terminal.state, late) == ("completed", [b"early", b"done: x"])
    # What an artifact is may be told late, so that the first one is there too.
    assert live == ["artifact", "nearly", "artifact", "terminal"]


def test_attach_while_it_runs_and_after_the_end(world: World, client: Open) -> None:
    """[A-10] Another process joins a running task, another one after the end; both see the whole of it."""
    world.hub()
    world.worker("handlers:hold")
    task_id = client().send_message(agent_name="hold", request_parts="x").task_id
    wait_until(lambda: world.notes("start"), what="the run")

    running = world.start("python", "-c", SCRIPT, task_id)
    watching = world.start("blocks", "watch", task_id, "--json")
    running.wait_for("joined running")
    watching.wait_for('"state": "running"')
    world.open_gate()

    assert (running.process.wait(60), watching.process.wait(60)) == (0, 0)
    assert running.text().splitlines()[-1] == "completed done: x"
    live = [json.loads(line) for line in watching.text().splitlines()]

    later = world.run("python", "-c", SCRIPT, task_id)
    past = world.run("blocks", "watch", task_id, "--json")

    assert later.stdout.splitlines() == ["joined completed", "completed done: x"], later.stderr
    assert [json.loads(line) for line in past.stdout.splitlines()] == live
    assert [event["type"] for event in live] == ["progress", "artifact", "terminal"]


def test_watch(world: World, client: Open) -> None:
    """`blocks watch` prints a line an event, tells by its exit code how the task ended, and leaves it alone."""
    world.hub()
    world.worker("handlers:hold")
    here = client()
    session = here.send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")
    left = world.start("blocks", "watch", session.task_id)
    left.wait_for("progress running")
    left.process.send_signal(signal.SIGINT)

    assert left.process.wait(60) == 130
    assert here.get_task(session.task_id).state == "running"

    watching = world.start("blocks", "watch", session.task_id)
    watching.wait_for("progress running")
    session.cancel("enough")

    assert watching.process.wait(60) == 1
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in watching.text().splitlines()[1:]] == [
        "cancel_requested enough",
        "artifact (no name) text/plain 9 bytes",
        "terminal canceled enough",
        f"blocks: task {session.task_id} canceled: enough",
    ]
    unknown = world.run("blocks", "watch", "nothing")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "blocks: there is no task 'nothing', or it is not yours; 'blocks tasks' lists them\n",
    )
