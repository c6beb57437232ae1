"""Code as users of the SDK have it in their projects, with the import changed and nothing else."""

#: A handler that need not get a context, and writes a part of the request down.
OPTIONAL_CONTEXT = """
import json
from typing import Any

def handler(task, ctx: Any = None) -> dict[str, Any]:
    first = task.request_parts[0]
    if ctx is not None:
        ctx.report_status("writing it down")
    return {"artifacts": [{"data": json.dumps(first), "mimeType": "application/json"}]}
"""

#: A registry that names it with a hyphen.
REGISTRY = """
{
  "schemaVersion": "1.0",
  "handlers": [
    {
      "name": "write-down",
      "runtime": "python",
      "description": "Writes a part down",
      "tags": ["json"],
      "entrypoint": {"path": "write_down.py", "symbol": "handler"},
      "defaults": {"maxThreads": 2}
    }
  ]
}
"""

#: A handler that uses all of its context, with the types that an editor wants.
FULL_CONTEXT = """
from blocks_worker import RequestPart, StartTaskMessage, TaskContext
from blocks_worker.types import ArtifactRef

def handler(task: StartTaskMessage, ctx: TaskContext) -> dict:
    ctx.report_status(f"for {task.owner_id}")
    said: list[str] = []
    for part in task.request_parts:
        assert isinstance(part, RequestPart)
        if hasattr(part, "text") and part.text:
            said.append(part.text)
        elif part.artifact_ref is not None:
            said.append(ctx.download_input_artifact(part).decode())
    ref = ctx.publish_artifact("so far", mime_type="text/plain", file_name="draft.txt", output_id="draft")
    assert isinstance(ref, ArtifactRef)
    if ctx.has_stream:
        def write(stream):
            for word in said:
                stream.write(word)
            stream.end()
        ctx.create_stream(direction="outbound", format="events", on_activate=write)
        ctx.cancel_event.wait(0.2)
    if ctx.is_cancelled or ctx.is_expired:
        return {"artifacts": []}
    return {"artifact": " ".join(said), "mimeType": "text/plain", "fileName": "said.txt"}
"""

#: The first program of a consumer.
QUICK_START = """
from blocks_worker import TaskClient, text_part

with TaskClient.create(billing_mode="free") as client:
    session = client.send_message(agent_name="echo", request_parts=[text_part("Hello")])
    with session:
        terminal = session.wait_for_terminal(timeout=30)
        print("state:", terminal.state, session.state)
        for path in session.save_artifacts("./artifacts"):
            print("saved:", path)
"""

#: A provider that is a program of its own.
PROVIDER = """
import json

from blocks_worker import AgentInstanceOptions, start_agent_instance
from blocks_worker.agent_instance import AgentInstance

def handler(task, ctx=None):
    return {"artifacts": [{"data": task.request_parts[0].text.upper(), "mimeType": "text/plain"}]}

card = {"identity": {"agentName": "shouter", "displayName": "Shouter", "description": "Shouts", "version": "1.0.0"}}
result = start_agent_instance(
    AgentInstanceOptions(
        agent_name="shouter",
        handler=handler,
        card=card,
        description="Shouts",
        capabilities=["text"],
        concurrency=4,
        expected_instances=1,
        max_pending_backlog=100,
        max_running_time_sec=60,
        heartbeat_ms=5000,
        instance_id="shouter-1",
        on_error=lambda task_id, error: print(task_id, error),
        listing="private",
    )
)
assert isinstance(result, AgentInstance)
assert "agent_name" in result and result["agent_name"] == result.agent_name
answer = result["task_client"].send_message(agent_name="shouter", request_parts=[{"text": "hello"}])
answer.wait_for_terminal(timeout=30)
print(answer.download_artifact(answer.list_artifacts()[0]).data.decode())
result["stop"]()
"""

#: A consumer that uses callbacks, streams and the artifacts' functions, as the reference of the API shows them.
CONSUMER = """
import sys
import threading

from blocks_worker import (
    CallbackErrorContext,
    ListTasksParams,
    SendMessageParams,
    SendMessageRequestPart,
    StreamRef,
    TaskEvent,
    create_task_client,
    download_artifact,
    file_part,
    text_part,
)

client = create_task_client(env="playground")
session = client.send_message(
    SendMessageParams(
        agent_name="full",
        request_parts=[
            text_part("one"),
            file_part(b"two", part_id="second", file_name="two.txt", content_type="text/plain"),
            SendMessageRequestPart(part_id="third", text="three"),
            {"partId": "fourth", "text": "four", "color": "blue"},
        ],
        idempotency_key=sys.argv[1],
        stream=True,
        auto_drain=True,
        drain_window_s=10.0,
    )
)
streamed: list[str] = []
told: list[str] = []
over, read = threading.Event(), threading.Event()

def on_stream(ref: StreamRef) -> None:
    assert ref.descriptor.format == "events"
    streamed.extend(ref.open().events())
    read.set()

def on_progress(event: TaskEvent) -> None:
    if event.message:
        told.append(event["message"])

def on_terminal(event: TaskEvent) -> None:
    over.set()
    raise LookupError("in a callback")

def on_error(error: Exception, context: CallbackErrorContext) -> None:
    told.append(f"{type(error).__name__} in {context.callback_type}")

session.on_error(on_error)
session.on_stream(on_stream)
session.on_progress(on_progress)
session.on_terminal(on_terminal)
terminal = session.wait_for_terminal(timeout=30)
assert over.wait(30)
assert read.wait(30)
while not session.is_closed:
    threading.Event().wait(0.01)
names = [download_artifact(ref, client).file_name for ref in session.list_artifacts()]
again = client.connect(task_id=session.task_id, drain_window_s=1.0)
assert [ref.file_name for ref in again.list_artifacts()] == names
info = client.get_task(session.task_id)
page = client.list_tasks(ListTasksParams(agent_name="full", limit=10))
print("|".join([terminal.state, info.state, str(len(page.tasks)), *names, *streamed, *told]))
print(session.download_artifact(session.list_artifacts()[-1]).data.decode())
client.destroy()
"""
