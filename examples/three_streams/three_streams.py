"""Three streams of one task: events, bytes, and one that all tasks of this process share."""

import threading
from collections import Counter

told = Counter()
guard = threading.Lock()


def handler(task, ctx):
    name = task.text()
    steps = ctx.create_stream(declared_stream="steps")
    ctx.create_stream(declared_stream="log", on_activate=lambda stream: write_log(stream, name))
    news = ctx.create_stream(declared_stream="news", subscribe_grace_ms=2000)
    with guard:
        told["tasks"] += 1
        news.write({"task": name, "number": told["tasks"]})
    for step in range(1, 4):
        ctx.sleep(0.05)
        steps.write({"step": step})
    steps.end()
    ctx.wait(30)


def write_log(stream, name):
    with stream:
        for part in ("log of ", name, b"\n"):
            stream.write(part)
