"""What users write, read by type checkers only: all of it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from blocks_worker import (
    AgentInstance,
    AgentInstanceOptions,
    ArtifactRef,
    DownloadedArtifact,
    ListTasksParams,
    SendMessageParams,
    SendMessageRequestPart,
    StartTaskMessage,
    TaskClient,
    TaskContext,
    TaskEvent,
    TaskInfo,
    TaskSession,
    TokenResult,
    create_task_client,
    file_part,
    json_part,
    start_agent_instance,
    text_part,
)
from blocks_worker.testing import HandlerRun, LocalStack, run_handler

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import assert_type

# ---------------------------------------------------------------- handlers


def handler(task: StartTaskMessage, ctx: TaskContext) -> dict[str, Any]:
    assert_type(task.text(), str)
    assert_type(task.text(default=None), str | None)
    assert_type(task.attempt, int)
    assert_type(ctx.is_cancelled, bool)
    assert_type(ctx.wait(0.0), bool)
    assert_type(ctx.publish_artifact(b"draft", file_name="draft.bin"), ArtifactRef)
    assert_type(ctx.download_input_artifact(task.files[0]), bytes)
    ctx.report_status("thinking")
    ctx.report_progress(0.5, "half")
    ctx.check_cancelled()
    order = ctx.step("order", lambda: {"id": 7})
    ctx.report_status(f"ordered {order['id']}")
    with ctx.create_stream(format="events") as stream:
        stream.write({"word": 1})
    return {"owner": task.owner_id, "asked": ctx.call("other", "x").text}


def of_the_task(task: StartTaskMessage) -> str:
    return task.text().upper()


async def waits(_task: StartTaskMessage, *, ctx: TaskContext) -> Path | None:
    del ctx
    return None


def spells(task: StartTaskMessage) -> Iterator[str]:
    yield from task.text()


@dataclass
class Greeter:
    greeting: str

    def greet(self, task: StartTaskMessage, _ctx: TaskContext) -> str:
        return f"{self.greeting}, {task.text()}!"

    def __call__(self, task: StartTaskMessage) -> bytes:
        return task.text().encode()


greeter = Greeter("Hello")
HANDLERS: list[Callable[..., object]] = [handler, of_the_task, waits, spells, greeter, greeter.greet]
OPTIONS = [AgentInstanceOptions(agent_name="greet", handler=each, concurrency=2) for each in HANDLERS]
FORMS = [
    AgentInstanceOptions(handler=handler),
    AgentInstanceOptions(handler=of_the_task),
    AgentInstanceOptions(handler=waits),
    AgentInstanceOptions(handler=spells),
    AgentInstanceOptions(handler=greeter),
    AgentInstanceOptions(handler=greeter.greet),
    AgentInstanceOptions(handler=lambda task: task.text()),
]


def serve() -> None:
    with start_agent_instance(OPTIONS[0]) as instance:
        assert_type(instance, AgentInstance)
        assert_type(instance.wait_ready(20), None)
        assert_type(instance.active_tasks, list[str])


# ---------------------------------------------------------------- consumers


def said(event: TaskEvent) -> None:
    assert_type(event.progress, float | None)
    assert_type(event.artifact_ref, ArtifactRef | None)


def opened() -> list[TaskClient]:
    create: Callable[[str], TaskClient] = TaskClient.create
    assert_type(TaskClient.create(), TaskClient)
    assert_type(create_task_client(), TaskClient)
    return [
        create("free"),
        TaskClient.create("free", api_key="bk_x", timeout=3),
        TaskClient.create("free", token_endpoint={"url": "https://example.com", "headers": {"Cookie": "a=1"}}),
        TaskClient.create("free", token_provider=lambda: TokenResult("token", expires_in=3600)),
        TaskClient.create("free", on_auth_error=print),
    ]


def sent(client: TaskClient, more: dict[str, Any]) -> list[TaskSession]:
    parts = [text_part("Ada"), json_part({"a": 1}), file_part(b"x")]
    assert_type(parts, list[SendMessageRequestPart])
    params = SendMessageParams(agent_name="greet", request_parts=parts)
    assert_type(client.send_message(params), TaskSession)
    assert_type(client.send_message({"agent_name": "greet"}), TaskSession)
    assert_type(client.send_message("greet", "Ada"), TaskSession)
    assert_type(client.send_message(agent_name="greet", request_parts=parts, timeout=3, max_runtime=60), TaskSession)
    assert_type(client.send_message("greet", parts, retry_policy={"maxAttempts": 3}, stream=True), TaskSession)
    assert_type(client.send_message("greet", not_before=30, priority=9, delivery="at_most_once"), TaskSession)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert_type(client.send_message("greet", not_before=tomorrow, deadline=tomorrow), TaskSession)
    assert_type(client.send_message(**more), TaskSession)
    assert_type(client.connect("id", role="provider"), TaskSession)
    return client.send_many([params, {"agent_name": "greet"}])


def ask(client: TaskClient, folder: Path) -> str:
    with client, client.send_message("greet", "Ada") as session:
        off: Callable[[], None] = session.on_progress(said)
        off()
        assert_type(session.wait_for_terminal(timeout=30), TaskEvent)
        assert_type(session.wait_for_terminal(), TaskEvent)
        assert_type([event.type for event in session], list[str])
        assert_type(session.result(3).text, str)
        assert_type(session.result(3).artifacts, list[DownloadedArtifact])
        assert_type(session.text(), str)
        assert_type(session.save_artifacts(folder), list[Path])
        assert_type(session.cancel("enough"), bool)
        assert_type("".join(session.sse()), str)
    assert_type(client.list_tasks(ListTasksParams(limit=5)).tasks, list[TaskInfo])
    assert_type(client.get_task("id").state, str)
    assert_type(client.cancel_task("id"), str)
    assert_type(client.retry_task("id", idempotency_key="once"), str)
    assert_type(client.list_tasks(dead=True).tasks, list[TaskInfo])
    client.purge_task("id")
    return client.run("greet", [file_part(b"x")], timeout=3, metadata={"a": 1}).text


# ---------------------------------------------------------------- tests of their own


def test_it() -> None:
    for each in HANDLERS:
        assert_type(run_handler(each, "Ada", cancel_after=1.0), HandlerRun)
    run = run_handler(handler, [text_part("Ada")], card={}, metadata={"a": 1})
    assert_type(run.state, str)
    assert_type(run.progress, list[float])
    assert_type(run.error, BaseException | None)
    assert_type(run.artifacts[0].file_name, str | None)
    with LocalStack({"greet": handler, "two": {"handler": waits, "concurrency": 2}, "three": OPTIONS[0]}) as stack:
        assert_type(stack, LocalStack)
        assert_type(stack.client, TaskClient)
        assert_type(stack.run("greet", "Ada").text, str)
        with stack.faults.hub_stopped(), stack.faults.messages_late(0.5):
            stack.faults.kill_worker("greet")


def test_with_the_fixture(local_stack: Callable[..., LocalStack]) -> None:
    assert_type(local_stack(of_the_task), LocalStack)
