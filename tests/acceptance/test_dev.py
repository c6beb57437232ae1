"""`blocks dev`: the code is edited while tasks run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import Daemon, World

    from blocks_worker.client.client import TaskClient

    Open = Callable[[], TaskClient]

CODE = """
import os
from pathlib import Path

def handler(task, ctx):
    if task.text() == "wait":
        Path("began").touch()
        while not Path(os.environ["GATE"]).exists():
            ctx.wait(0.02)
    return "answer one" + os.environ.get("MARK", "")
"""


def said(daemon: Daemon, text: str, count: int) -> None:
    """Wait until it has said this so often."""
    wait_until(lambda: daemon.text().count(text) >= count, 90, f"{text!r} {count} times in\n{daemon.text()}")


def test_the_next_task_has_the_new_code(world: World, client: Open) -> None:
    """[R-61] What runs ends by the old code, a file that is wrong is waited for, and nothing outlives its parent."""
    file = world.folder / "mine.py"
    file.write_text(CODE)
    dev = world.start("blocks", "dev", "--handler", "mine:handler")
    dev.wait_for("[agent] ready")
    running = client().send_message("mine", "wait")
    wait_until((world.folder / "began").exists, 60, "the run")

    file.write_text(CODE.replace("one", "two"))
    dev.wait_for("[dev] mine.py changed: the worker finishes what it runs, then starts anew")
    world.open_gate()
    assert running.text(60) == "answer one"
    assert client().run("mine", "x").text == "answer two"

    file.write_text("def (\n")
    dev.wait_for("[dev] the worker ended with code 1; waiting for a change")
    assert "mine.py line 1): SyntaxError" in dev.text()
    assert "Traceback" not in dev.text(), "the one line says it all"
    (world.folder / ".env").write_text("MARK=!")
    # Told once more: the next change is one of its own then.
    said(dev, "[dev] the worker ended with code 1; waiting for a change", 2)
    file.write_text(CODE.replace("one", "three"))
    assert client().run("mine", "x").text == "answer three!"
    ready = dev.text().count("[agent] ready")
    (world.folder / ".env").write_text("MARK=?")
    said(dev, "[dev] .env changed", 2)
    # The old worker is told right after that, and may take another task before it hears.
    said(dev, "[agent] ready", ready + 1)
    assert client().run("mine", "x").text == "answer three?"

    dev.kill()
    wait_until(
        lambda: "[agent] drained: 1 completed" in dev.text().rpartition("[agent] SIGTERM")[2],
        60,
        "the end of the worker",
    )


def test_what_is_wrong_at_the_start_is_waited_for(world: World) -> None:
    """A wrong .env is told and waited for as a wrong file is, and a worker that has not begun yet ends with 0."""
    (world.folder / ".env").write_text("LOG_LEVEL=nonsense")
    dev = world.start("blocks", "dev", "--handler", "echo")
    dev.wait_for("waiting for a change")
    (world.folder / ".env").write_text("LOG_LEVEL=info")
    dev.wait_for("[dev] watching")

    assert "LOG_LEVEL" in dev.text().splitlines()[0]
    assert dev.terminate() == 0


def test_a_signal_ends_it(world: World) -> None:
    """SIGTERM ends it with 0, also while it waits for a change."""
    dev = world.start("blocks", "dev", "--handler", "nobody")
    dev.wait_for("no handler named 'nobody'")
    dev.wait_for("waiting for a change")

    assert dev.terminate() == 0
