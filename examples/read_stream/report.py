"""Writes a report line by line, as bytes."""

import platform


def handler(task, ctx):
    with ctx.create_stream() as stream:
        for number in range(1, 6):
            ctx.sleep(0.05)
            stream.write(f"line {number} of {task.text()}, by {platform.system()}\n")
