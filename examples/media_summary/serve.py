"""The agent, and a stand-in for its model server unless BASE_URL says where there is one."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

from media_summary import handler
from stand_in import model_server

from blocks_worker import start_agent_instance

card = json.loads(Path("agent-card.json").read_text())
with ExitStack() as stack:
    if "BASE_URL" not in os.environ:
        os.environ["BASE_URL"] = stack.enter_context(model_server())
    agent = stack.enter_context(start_agent_instance({"card": card, "handler": handler}))
    agent.wait_ready(30)
    print(f"ready, with the model server {os.environ['BASE_URL']}; Ctrl-C ends", flush=True)
    try:
        agent.wait()
    except KeyboardInterrupt:
        print("draining")
