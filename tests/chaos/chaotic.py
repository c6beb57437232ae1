"""The handler of the chaos run, served by real workers: it does what the task's kind says, and notes its runs."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from chaos.notes import Notes
from chaos.wishes import ASK, SHORT_ASK

from blocks_worker.errors import AskTimeoutError

_NOTES = Notes(os.environ["RUNS"])


def handler(task: Any, ctx: Any) -> Any:
    """Note the start, work, and note how it ended; who is killed notes no end."""
    _NOTES.add("start", task=task.task_id, attempt=ctx.attempt)
    how = "raised"
    try:
        asked = json.loads(task.text())
        result = WORK[asked["kind"]](asked, ctx)
        how = "returned"
    finally:
        _NOTES.add("end", task=task.task_id, attempt=ctx.attempt, how=how)
    return result


def plain(asked: dict[str, Any], ctx: Any) -> str:
    """Work for a moment."""
    if ctx.wait(asked["seconds"]):
        ctx.check_cancelled()
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def events(asked: dict[str, Any], ctx: Any) -> str:
    """Say how it goes, and hand over several outputs: each is one durable event."""
    for number in range(6):
        ctx.publish_artifact(f"{asked['number']}.{number}", file_name=f"{number}.txt")
        ctx.report_progress(number / 6)
        if ctx.wait(asked["seconds"] / 6):
            ctx.check_cancelled()
    return plain(asked, ctx)


def artifact(asked: dict[str, Any], ctx: Any) -> bytes:
    """Return more than travels inside an event."""
    return (plain(asked, ctx) * 400).encode()


def retried(asked: dict[str, Any], ctx: Any) -> str:
    """Fail the first runs."""
    told = plain(asked, ctx)
    if ctx.attempt <= asked["failures"]:
        raise RuntimeError(f"run {ctx.attempt} is to fail")
    return told


def steps(asked: dict[str, Any], ctx: Any) -> str:
    """Do three steps, each with another value whenever it is done, and fail the first runs after them."""

    def done(number: int) -> str:
        _NOTES.add("did", task=ctx.task_id, step=number)
        return os.urandom(8).hex()

    for number in range(3):
        value = ctx.step(f"step {number}", lambda number=number: done(number))
        _NOTES.add("step", task=ctx.task_id, step=number, value=value)
    return retried(asked, ctx)


def asked(asked: dict[str, Any], ctx: Any) -> str:
    """Ask, note the answer, and fail the first runs after it."""
    timeout = SHORT_ASK if asked["answers"] == "late" else None
    _heard(asked, ctx, timeout)
    return retried(asked, ctx)


def unanswered(asked: dict[str, Any], ctx: Any) -> str:
    """Ask what nobody answers."""
    _heard(asked, ctx, SHORT_ASK)
    return plain(asked, ctx)


def _heard(asked: dict[str, Any], ctx: Any, timeout: float | None) -> None:
    """Ask; whoever reads the question alone is to know whose it is."""
    ctx.report_status("asks")
    _NOTES.add("parks", task=ctx.task_id, attempt=ctx.attempt)
    try:
        value = ctx.ask(str(asked["number"]), {"type": "string"}, timeout, ask_id=ASK)
    except AskTimeoutError:
        value = None
    _NOTES.add("goes on", task=ctx.task_id, attempt=ctx.attempt)
    _NOTES.add("heard", task=ctx.task_id, value=value)


def paused(asked: dict[str, Any], ctx: Any) -> str:
    """Say that it runs, and wait while it is paused, until it was or had time to be."""
    ctx.report_status("begun")
    for _ in range(20):
        if ctx.is_paused:
            _NOTES.add("parks", task=ctx.task_id, attempt=ctx.attempt)
            ctx.wait_while_paused()
            _NOTES.add("goes on", task=ctx.task_id, attempt=ctx.attempt)
            break
        if ctx.wait(0.1):
            ctx.check_cancelled()
    return plain(asked, ctx)


def failing(asked: dict[str, Any], ctx: Any) -> str:
    """Fail."""
    raise RuntimeError(plain(asked, ctx))


def cancelled(_asked: dict[str, Any], ctx: Any) -> str:
    """Say that it runs, and wait for the stop; note when it comes."""
    ctx.report_status("begun")
    while not ctx.wait(60):
        pass
    _NOTES.add("flag", task=ctx.task_id)
    ctx.check_cancelled()
    return "stopped"


def pipe(_asked: dict[str, Any], ctx: Any) -> str:
    """Open, and return: it ends when it is told to."""
    ctx.report_status("open")
    return "open"


#: What each kind does.
WORK = {
    "plain": plain,
    "events": events,
    "artifact": artifact,
    "retried": retried,
    "steps": steps,
    "failing": failing,
    "cancelled": cancelled,
    "delayed": plain,
    "unbegun": plain,
    "pipe": pipe,
    "once": plain,
    "asked": asked,
    "unanswered": unanswered,
    "paused": paused,
}
