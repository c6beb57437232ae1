"""The handler of the measures: it works, fails, waits for its stop, or hears of nothing, as the text says."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from chaos.notes import Notes
from chaos.raised import RAISED

_NOTES = Notes(os.environ["RUNS"])
_GATE = Path(os.environ["GATE"])


def handler(task: Any, ctx: Any) -> Any:
    """Do what the text says, or raise what it names."""
    return RAISED[task.text()]() if task.text() in RAISED else WORK[task.text()](ctx)


def plain(_ctx: Any) -> str:
    """Return."""
    return "done"


def failing(_ctx: Any) -> str:
    """Fail, with a megabyte in a local that nobody may keep."""
    ballast = bytearray(1 << 20)
    raise RuntimeError(f"{len(ballast)} bytes are not enough")


def waiting(ctx: Any) -> str:
    """Say that it runs, and wait for the stop; note when it comes."""
    _NOTES.add("start", task=ctx.task_id, attempt=ctx.attempt)
    ctx.report_status("begun")
    while not ctx.wait(60):
        pass
    _NOTES.add("flag", task=ctx.task_id)
    ctx.check_cancelled()
    return "stopped"


def held(ctx: Any) -> str:
    """Note the start; the first run never ends by itself, a later one does at once."""
    _NOTES.add("start", task=ctx.task_id, attempt=ctx.attempt)
    while ctx.attempt == 1 and not ctx.wait(60):
        pass
    return "done"


def stopped(ctx: Any) -> Any:
    """Wait for the stop, and leave with what no ``except Exception`` holds."""
    ctx.wait(60)
    return RAISED["interrupt"]()


def hanging(ctx: Any) -> str:
    """Hear of nothing until the gate is open."""
    _NOTES.add("start", task=ctx.task_id, attempt=ctx.attempt)
    while not _GATE.exists():
        threading.Event().wait(0.2)
    return "done"


WORK = {
    "plain": plain,
    "failing": failing,
    "waiting": waiting,
    "held": held,
    "hanging": hanging,
    "stopped": stopped,
}
if WORK.keys() & RAISED.keys():
    raise RuntimeError(f"two meanings: {WORK.keys() & RAISED.keys()}")
