"""What a person at a terminal reads when something is not as it should be, and how he goes on from there."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import BIN
from support import wait_until
from support_processes import new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient

    Open = Callable[[], TaskClient]

ODD = """
from pathlib import Path

def handler(task, ctx):
    if task.text() == "break":
        return helper()
    if task.text() == "second time" and ctx.attempt < 2:
        raise OSError("not yet")
    if task.text() == "stream":
        with ctx.create_stream(format="bytes") as out:
            for piece in ("h\\u00e9".encode(), b"\\xff"):
                out.write(piece)
                while not (Path("goes-on").exists() or ctx.wait(0.02)): pass
        return None
    if task.text() == "endless":
        with ctx.create_stream(format="events") as out:
            while not ctx.is_cancelled:
                out.write("piece")
                ctx.wait(0.05)
        return None
    if task.text() == "files":
        Path("out.txt").write_text("from a file")
        return {"artifacts": [Path("out.txt"), "bare", {"data": b"\\x00", "mimeType": "image/png"}]}
    return {1, 2}

def helper():
    raise LookupError("nothing of that name")
"""


TELLS = """
from handlers import hold

def handler(task, ctx):
    ctx.report_status("at it")
    return hold(task, ctx)
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Have a worker that serves a handler which does not always do well."""
    world = new_world(tmp_path_factory.mktemp("odd"), os.environ.get("TEST_TRANSPORT"))
    (world.folder / "odd.py").write_text(ODD)
    # Those whose sender lost his output hold their slots for a while.
    world.worker("odd:handler", "--concurrency", "8")
    yield world
    for daemon in world.daemons:
        if daemon.process.poll() is None:
            daemon.kill()


def on_terminal(world: World, columns: int, *args: str) -> str:
    """Return what a command shows on a terminal of that width."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**world.environment, "TERM": "xterm"}
    done = subprocess.run(
        [str(BIN / args[0]), *args[1:]],
        env=environment, cwd=world.folder,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 100_000):
            shown += piece
    except OSError:  # how Linux says that nobody has the screen any more
        return re.sub(r"\x1b\[\d*m", "", shown.decode())
    finally:
        os.close(ours)
    return re.sub(r"\x1b\[\d*m", "", shown.decode())


def test_what_was_left_out_is_told_to_whoever_sent(odd: World) -> None:
    """A result that nothing can be made of completes with a warning on standard error, of `watch` too."""
    sent = odd.run("blocks", "send", "odd", "set", "--json")
    watched = odd.run("blocks", "watch", json.loads(sent.stdout)["taskId"][-8:])

    expected = "warning: the handler returned a set, which no artifact can be made of: left out\n"
    assert (sent.returncode, sent.stderr) == (0, expected)
    assert (watched.returncode, watched.stderr) == (0, expected)
    assert re.fullmatch(r"\d\d:\d\d:\d\d terminal completed", watched.stdout.splitlines()[-1])


def test_saved_artifacts_have_names_that_say_what_they_are(odd: World) -> None:
    """Without a name of its own an artifact gets an extension by its type; texts are shown as well."""
    done = odd.run("blocks", "send", "odd", "files", "--save", "out")

    assert done.stdout == "from a file\nbare\n"
    assert sorted(path.name for path in (odd.folder / "out").iterdir()) == [
        "artifact-1.txt",
        "artifact-2.png",
        "out.txt",
    ]


def test_a_handlers_traceback_begins_with_its_code(odd: World) -> None:
    """The log of a handler that raised shows the user's lines and none of ours."""
    odd.run("blocks", "send", "odd", "break")
    record = next(json.loads(line) for line in odd.daemons[0].text().splitlines() if "handler_failed" in line)

    assert [line for line in record["exception"].splitlines() if line.startswith("  File")] == [
        f'  File "{odd.folder / "odd.py"}", line 6, in handler',
        f'  File "{odd.folder / "odd.py"}", line 27, in helper',
    ]


def test_every_line_of_a_worker_is_a_record_where_records_go(world: World) -> None:
    """With both streams in one file that is no terminal, all lines are JSON, what the worker says itself included."""
    worker = world.worker("echo")
    worker.terminate()
    records = [json.loads(line) for line in worker.text().splitlines()]

    said = [record["message"] for record in records if record["message"].startswith("[agent] ")]
    assert said[0] == "[agent] starting echo"
    assert said[-1].startswith("[agent] drained: ")


def test_a_wrong_name_gets_the_near_one(odd: World) -> None:
    """The line of an unknown agent names a similar one, and how to list them; it has no mark of the exception."""
    done = odd.run("blocks", "send", "ood", "x")

    assert done.returncode == 1
    assert done.stderr == "blocks: no agent named 'ood'; did you mean 'odd'? `blocks agents` lists them\n"


def test_no_worker_is_told_at_once_and_the_task_can_be_followed_and_cancelled(world: World, client: Open) -> None:
    """Who sends to an agent that nobody serves is told, with the id by which to watch and cancel the task. [R-56]"""
    world.hub()
    world.worker("handlers:hold").terminate()

    done = world.run("blocks", "send", "hold", "x", "--timeout", "0.5")
    task_id = client().list_tasks().tasks[0].task_id

    assert done.returncode == 3
    assert f"no worker of 'hold' is running; the task {task_id} waits in the hub" in done.stderr.splitlines()[0]
    assert "start the one that serves it" in done.stderr
    assert f"'blocks watch {task_id}'" in done.stderr
    assert done.stderr.endswith("it is pending, queued: no instance of the agent is running\n")

    cancelled = world.run("blocks", "cancel", task_id[:-1], "--reason", "no one there")
    again = world.run("blocks", "cancel", task_id[-8:], "--json")
    unknown = world.run("blocks", "cancel", "nothing-like-it")

    assert cancelled.stdout == f"task {task_id} is canceled\n"
    assert json.loads(again.stdout) == {"taskId": task_id, "state": "canceled", "alreadyEnded": True}
    assert client().get_task(task_id).extra["reason"] == "no one there"
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "blocks: there is no task 'nothing-like-it', or it is not yours; 'blocks tasks' lists them\n",
    )


def test_all_busy_is_told_apart_from_nobody_there(world: World) -> None:
    """A task that waits for a slot says that the instances are busy. [R-56]"""
    world.worker("handlers:hold")
    first = world.run("blocks", "send", "hold", "x", "--timeout", "0.2")
    wait_until(lambda: world.notes("start"), what="the run")
    second = world.run("blocks", "send", "hold", "x", "--timeout", "0.2")
    world.open_gate()

    assert "queued" not in first.stderr
    assert second.stderr.endswith("queued: all instances of the agent are busy\n")


def test_ctrl_c_says_that_the_task_was_asked_to_stop(world: World) -> None:
    """Interrupting `blocks send` cancels the task, and the line names it."""
    (world.folder / "tells.py").write_text(TELLS)
    world.worker("tells:handler")
    sender = world.start("blocks", "send", "tells", "x")
    # Else it may not know yet which task it sent.
    sender.wait_for("at it")
    sender.process.send_signal(signal.SIGINT)

    assert sender.process.wait(60) == 130
    (run,) = world.notes("start")
    said = f"blocks: interrupted: task {run[1]} was asked to stop; 'blocks watch {run[1]}' shows it"
    assert sender.text().splitlines()[-1] == said
    wait_until(lambda: world.notes("cancelled"), what="the cancel")


def test_the_list_of_tasks_keeps_ids_whole_on_any_terminal(odd: World) -> None:
    """On 50, 80 and 120 columns each id can be copied and each line fits; a pipe gets every column."""
    odd.run("blocks", "send", "odd", "break")
    odd.run("blocks", "send", "odd", "set")
    piped = odd.run("blocks", "tasks").stdout.splitlines()
    ids = [line.split("\t")[0] for line in piped[1:]]

    assert piped[0].split("\t") == ["TASK", "AGENT", "STATE", "CREATED", "RUN", "ERROR"]
    for columns in (50, 80, 120):
        lines = on_terminal(odd, columns, "blocks", "tasks").splitlines()
        assert all(len(line) <= columns for line in lines), lines
        assert all(any(task_id in line for line in lines) for task_id in ids), lines

    nobody = odd.run("blocks", "tasks", "--agent", "nosuch")
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("blocks: there is no agent 'nosuch', or it is not yours; ")


def test_who_takes_no_output_is_told_at_once(odd: World) -> None:
    """A pipe that was cut, a full disk, a closed output: one line, code 1, and nobody waits for the task's end."""
    command = [str(BIN / "blocks"), "send", "odd", "endless", "--stream"]
    ways = {
        "(Broken pipe); task ": "{} | head -n 1",
        "(No space left on device); task ": "{} > /dev/full",
        "(it is closed); nothing was sent": "{} >&-",
        "(No space left on device); 'blocks watch ": f"{BIN}/blocks send odd files > /dev/full",
    }
    for told, way in ways.items():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", way.format(shlex.join(command))],
            env=odd.environment, cwd=odd.folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=60, text=True, check=False,
        )  # fmt: skip

        assert (done.returncode, done.stderr.count("\n"), told in done.stderr) == (1, 1, True), done.stderr


def test_a_stream_is_printed_as_it_comes(odd: World) -> None:
    """Bytes pass unchanged, or as JSON with the outcome in a line behind them; a task without a stream is told."""
    plain = odd.start("blocks", "send", "odd", "stream", "--stream")
    wired = odd.start("blocks", "send", "odd", "stream", "--stream", "--json")
    wait_until(lambda: plain.log.read_bytes() == "h\u00e9".encode(), 90, "the first piece")
    wired.wait_for("\n")
    (odd.folder / "goes-on").touch()
    none = odd.run("blocks", "send", "odd", "second time", "--retry", "2", "--stream")

    assert (plain.process.wait(60), wired.process.wait(60)) == (0, 0)
    pieces = wired.text().splitlines()
    assert plain.log.read_bytes() == "h\u00e9".encode() + b"\xff"
    assert [json.loads(line).get("text") or json.loads(line).get("data") for line in pieces[:-1]] == ["h\u00e9", "/w=="]
    assert json.loads(pieces[-1])["state"] == "completed"
    assert none.returncode == 0, none.stderr
    assert "the task had no stream to read" in none.stderr
