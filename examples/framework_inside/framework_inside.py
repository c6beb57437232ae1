"""A framework that wants to be awaited, in a handler that can be: no loop is started by hand."""

import asyncio

from librarian import librarian


async def handler(task, ctx):
    steps = []

    def on_step(name, state):
        steps.append(name)
        ctx.report_status(f"step {len(steps)}: {name}, {len(state.get('shelves', ()))} shelves to go")

    try:
        state = await librarian.run({"question": task.text()}, on_step)
    except asyncio.CancelledError:
        ctx.publish_artifact(f"stopped in {steps[-1]}", file_name="notes.txt")
        raise
    return {"artifacts": [state["answer"], " ".join(steps)]}
