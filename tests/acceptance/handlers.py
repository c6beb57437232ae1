"""Handlers that the daemons of these tests serve. Each notes its runs in the file named by RUNS."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


def note(task: Any, ctx: Any, word: str) -> None:
    """Append one line: word, task, attempt, pid, unix time."""
    line = f"{word} {task.task_id} {ctx.attempt} {os.getpid()} {time.time():.3f}\n"
    with Path(os.environ["RUNS"]).open("a") as file:
        file.write(line)


def hold(task: Any, ctx: Any) -> str:
    """Wait for the file named by GATE to appear, or for the cancel; then return the text."""
    note(task, ctx, "start")
    gate = Path(os.environ["GATE"])
    while not gate.exists():
        if ctx.wait(0.05):
            note(task, ctx, "cancelled")
            return "cancelled"
    note(task, ctx, "end")
    return f"done: {task.text()}"


def show(task: Any, ctx: Any) -> str:
    """Publish an artifact, wait as `hold` does, and publish another."""
    ctx.publish_artifact("early", file_name="early.txt")
    told = hold(task, ctx)
    ctx.report_progress(0.9, "nearly")
    return told


def spin(task: Any, ctx: Any) -> str:
    """Burn the CPU for as many seconds as the text says, or until the cancel."""
    note(task, ctx, "start")
    end = time.monotonic() + float(task.text())
    while time.monotonic() < end and not ctx.is_cancelled:
        pass
    note(task, ctx, "cancelled" if ctx.is_cancelled else "end")
    return "spun"


def hang(task: Any, ctx: Any) -> str:
    """Never return, whatever is asked."""
    note(task, ctx, "start")
    while True:
        threading.Event().wait()


def modules(task: Any) -> list[dict[str, Any]]:
    """Return which top-level packages this process has loaded."""
    return [{"data": sorted({name.partition(".")[0] for name in sys.modules})}]


def misbehave(task: Any) -> Any:
    """Do what the text says, all of it wrong."""
    wish = task.text()
    if wish == "exit":
        raise SystemExit(3)
    if wish == "interrupt":
        raise KeyboardInterrupt
    if wish == "raise":
        raise LookupError("no such thing")
    if wish == "huge":
        return b"x" * 50_000_000
    if wish == "junk":
        return object()
    if wish == "unserialisable":
        return {"artifacts": [{"data": {"value": {1, 2}}}]}
    return "fine"


def measure(task: Any, ctx: Any) -> str:
    """Return how many bytes the file part has."""
    return str(len(ctx.download_input_artifact(task.files[0])))


def back(task: Any) -> Path:
    """Return a file as large as the one that came, of the same content, without reading either."""
    name = str(task.files[0].artifact_ref.file_name)
    return Path(os.environ["RUNS"]).parent / name


async def later(task: Any, ctx: Any) -> str:
    """Be a coroutine."""
    import asyncio

    await asyncio.sleep(0.01)
    return f"later: {task.text()} {ctx.attempt}"


def pipe(task: Any, ctx: Any) -> str:
    """Open a stream that ticks until the task is over, and return, unless the text says to stay."""
    note(task, ctx, "start")

    def tick(stream: Any) -> None:
        number = 0
        while not ctx.wait(0.1):
            number += 1
            stream.write(f"{number}\n")
        note(task, ctx, "expired" if ctx.is_expired else "ended")

    ctx.create_stream(on_activate=tick)
    if task.text() == "stay":
        ctx.wait(120)
    return "open"


def obey(task: Any, ctx: Any) -> str:
    """Work until the gate is open; wait whenever the task is paused."""
    note(task, ctx, "start")
    gate = Path(os.environ["GATE"])
    while not gate.exists():
        if ctx.is_paused:
            note(task, ctx, "paused")
            ctx.wait_while_paused()
            note(task, ctx, "resumed")
        if ctx.wait(0.05):
            return "cancelled"
    return "done"


def flood(task: Any, ctx: Any) -> str:
    """Write a stream of as many events or pieces as the text says, and note how far it is."""
    from stream_reader import NOTED, bytes_of, event_of, size_of

    wish = task.json()
    kind, written, noted = wish["kind"], Path(wish.get("written", "/dev/null")), 0
    with ctx.create_stream(format=kind) as stream:
        for number in range(wish["count"]):
            stream.write(event_of(number) if kind == "events" else bytes_of(number))
            size = size_of(kind, number + 1)
            if size - noted >= NOTED:
                noted = size
                written.write_text(str(size))
    return "all"


def stepwise(task: Any, ctx: Any) -> str:
    """Do two durable steps, and wait between them until the gate is open."""
    first = ctx.step("first", lambda: note(task, ctx, "first") or os.getpid())
    hold(task, ctx)
    second = ctx.step("second", lambda: note(task, ctx, "second") or os.getpid())
    return f"{first} {second}"


def steady(task: Any, ctx: Any) -> str:
    """Work for a moment; where the text says so, until the gate is open."""
    note(task, ctx, "start")
    gate = Path(os.environ["GATE"])
    while task.text() == "held" and not gate.exists() and not ctx.wait(0.05):
        pass
    ctx.wait(0.02)
    note(task, ctx, "end")
    return task.text()


def inquire(task: Any, ctx: Any) -> str:
    """Ask, and tell the answer."""
    note(task, ctx, "start")
    return f"{task.text()}: {ctx.ask('Go on?', {'type': 'boolean'}, timeout=120)}"


def compute(task: Any, ctx: Any) -> str:
    """Compute until the interpreter gives way sooner than it does by itself, or the cancel comes."""
    before = sys.getswitchinterval()
    while sys.getswitchinterval() >= before and not ctx.is_cancelled:
        pass
    return f"{before} {sys.getswitchinterval()}"
