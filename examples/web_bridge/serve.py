"""An agent that takes one task at a time, and the bridge to it."""

import contextlib
import os
import socket

import uvicorn
from bridge import Bridge

from blocks_worker import TaskClient, start_agent_instance

PORT = int(os.environ.get("PORT", "8010"))


class Server(uvicorn.Server):
    async def shutdown(self, sockets=None):
        bridge.close()
        await super().shutdown(sockets)


def steps(task, ctx):
    count = int(task.text())
    for step in range(1, count + 1):
        ctx.report_progress(step / count, f"step {step} of {count}")
        ctx.sleep(0.4)
    return f"took {count} steps"


with (
    socket.create_server(("127.0.0.1", PORT)) as listener,
    start_agent_instance({"agent_name": "steps", "handler": steps}) as agent,
    TaskClient.create("free") as client,
    contextlib.suppress(KeyboardInterrupt),
):
    agent.wait_ready(30)
    bridge = Bridge(client, keep_alive=0.2)
    print(f"ready: open http://127.0.0.1:{PORT}/ in a browser; Ctrl-C ends", flush=True)
    Server(uvicorn.Config(bridge.app, log_level="warning")).run(sockets=[listener])
