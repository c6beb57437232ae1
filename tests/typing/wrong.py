"""What users mistype, read by type checkers only: each line names the error that mypy is to find there."""

from __future__ import annotations

from blocks_worker import AgentInstanceOptions, StartTaskMessage, TaskClient, TaskContext, start_agent_instance
from blocks_worker.testing import LocalStack, run_handler


def handler(task: StartTaskMessage, ctx: TaskContext) -> int:
    ctx.report_progress("half")  # mypy: arg-type
    ctx.report_progess(0.5)  # mypy: attr-defined
    ctx.wait("long")  # mypy: arg-type
    return task.text()  # mypy: return-value


AgentInstanceOptions(handler="greet:handler")  # mypy: arg-type
AgentInstanceOptions(handler=handler, concurency=2)  # mypy: call-arg
start_agent_instance(handler)  # mypy: arg-type

client = TaskClient.create("free", api_kye="bk_x")  # mypy: call-arg
client.send_message(agent_nme="greet")  # mypy: call-overload
client.send_message("greet", "Ada", retries=3)  # mypy: call-overload
client.send_message("greet", "Ada", max_runtime="1m")  # mypy: call-overload
client.run("greet", "Ada", tiemout=3)  # mypy: call-arg
client.run("greet", "Ada").txt  # mypy: attr-defined
session = client.send_message("greet")
session.wait_for_terminal("30")  # mypy: arg-type
session.wait_for_terminal().stat  # mypy: attr-defined
session.on_progress(lambda: None)  # mypy: arg-type, misc

run_handler("greet")  # mypy: arg-type
run_handler(handler, cancel_after="1")  # mypy: arg-type
run_handler(handler).statuses + 1  # mypy: operator
LocalStack(handler).run("greet", tiemout=3)  # mypy: call-arg
