"""Failed tasks run again by their policy, and tasks that failed are sent again: real hub, worker and client."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import Exchange, Fault, FaultProxy, cdm_through

from blocks_worker import AgentInstanceOptions, TaskClient, file_part, start_agent_instance, text_part
from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.config import state_dir
from blocks_worker.errors import InputError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext

SOON = {"maxAttempts": 3, "initialDelaySec": 0.2}


class Failing:
    """A handler that fails as often as it is told, and notes what it was given."""

    def __init__(self, failures: int = 0, error: type[Exception] = LookupError) -> None:
        self.left = failures
        self.error = error
        self.runs: list[dict[str, Any]] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, task: StartTaskMessage, ctx: TaskContext) -> str:
        """Fail, or say what came."""
        files = [ctx.download_input_artifact(file) for file in task.files]
        self.runs.append({"id": task.task_id, "text": task.text(), "files": files, "metadata": dict(ctx.metadata)})
        ctx.wait(0) if self.hold.is_set() else self.hold.wait(20)
        if self.left > 0:
            self.left -= 1
            raise self.error("not this time")
        return f"done: {task.text()}"


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def handler(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    """Serve the agent "flaky"; return its handler."""
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    made = Failing()
    with start_agent_instance(AgentInstanceOptions(agent_name="flaky", handler=made, concurrency=4)) as instance:
        instance.wait_ready(30)
        yield made


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Create a client of the local hub."""
    with TaskClient.create("free") as made:
        yield made


def test_a_failed_task_is_sent_again_with_all_it_had(handler: Failing, client: TaskClient) -> None:
    """The new task has the same text, stored file and metadata, and says which it repeats. [R-57] [R-64]"""
    handler.left = 1
    data = bytes(range(256)) * 200
    parts = [text_part("hi"), file_part(data, file_name="a.bin")]
    old = client.send_message(agent_name="flaky", request_parts=parts, metadata={"who": "ann"}, max_runtime=77.0)
    assert old.wait_for_terminal(30).state == "failed"

    new_id = client.retry_task(old.task_id)

    with client.connect(new_id) as new:
        assert new.text(30) == "done: hi"
    first, second = handler.runs
    assert second == {**first, "id": new_id}
    assert (first["files"], first["metadata"]) == ([data], {"who": "ann"})
    assert client.get_task(new_id).extra["retryOf"] == old.task_id
    assert client.get_task(old.task_id).state == "failed"


def test_a_canceled_task_is_sent_again_and_no_other(handler: Failing, client: TaskClient) -> None:
    """One that goes on, is completed or is nobody's is refused by its code; each call makes another task. [R-57]"""
    handler.hold.clear()
    running = client.send_message("flaky", "one")
    wait_until(lambda: handler.runs, what="the run has begun")
    with pytest.raises(RpcError) as caught:
        client.retry_task(running.task_id)
    assert (caught.value.code, caught.value.status) == ("InvalidState", 409)
    running.cancel("enough")
    handler.hold.set()
    assert running.wait_for_terminal(30).state in {"canceled", "completed"}
    client.send_message("flaky", "two", max_runtime=600).wait_for_terminal(30)
    done = client.list_tasks(ListTasksParams(state="completed", limit=1)).tasks[0]
    for task_id, code in ((done.task_id, "InvalidState"), ("nothing", "NotFound")):
        with pytest.raises(RpcError) as caught:
            client.retry_task(task_id)
        assert caught.value.code == code


def test_a_task_that_was_canceled_before_its_run(client: TaskClient, hub: Caller) -> None:
    """It is sent again as often as is asked: each time as another task. [R-57]"""
    hub.connect("idle", billingMode="free")
    waiting = client.send_message("idle", "x")
    waiting.cancel()
    first, second = client.retry_task(waiting.task_id), client.retry_task(waiting.task_id)

    assert len({waiting.task_id, first, second}) == 3
    assert {client.get_task(each).extra["retryOf"] for each in (first, second)} == {waiting.task_id}


def test_many_that_send_a_task_again_at_once_make_one(client: TaskClient, hub: Caller) -> None:
    """[J22] Twenty callers under one key get the same new task, whatever id each of them drew; the old row stays."""
    hub.connect("idle", billingMode="free")
    old = client.send_message("idle", "x", queue_ttl=0.001)
    assert old.wait_for_terminal(20).reason == "queue_ttl"
    before = client.get_task(old.task_id)
    with ThreadPoolExecutor(20) as pool:
        made = set(pool.map(lambda _: client.retry_task(old.task_id, "mended"), range(20)))

    assert len(made) == 1
    assert {task.task_id for task in client.list_tasks().tasks} == {old.task_id, *made}
    assert client.get_task(old.task_id) == before


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_REPLY])
def test_a_lost_answer_makes_one_task(hub: Caller, tmp_path: Path, fault: Fault) -> None:
    """Whether question or answer was lost, the repeated exchange makes one new task. [R-21] [R-57]"""
    with FaultProxy(hub.address.url) as proxy:
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        hub.connect("idle", billingMode="free")
        with TaskClient.create("free", cdm_url=cdm, api_key=hub.key) as client:
            old = client.send_message("idle", "x")
            old.cancel()

            def is_retry(exchange: Exchange) -> bool:
                return exchange.path.endswith("/retry")

            proxy.fail(fault, when=is_retry)
            new_id = client.retry_task(old.task_id)

            assert [each.fault for each in proxy.exchanges if is_retry(each)] == [fault, None]
            assert {task.task_id for task in client.list_tasks().tasks} == {old.task_id, new_id}


def test_the_id_of_another_task_is_refused(hub: Caller, client: TaskClient) -> None:
    """Who names a task that is something else is told so, and nothing is sent again. [R-57]"""
    hub.connect("idle", billingMode="free")
    old, other = client.send_message("idle", "x"), client.send_message("idle", "y")
    old.cancel()
    token = hub.consumer()["accessToken"]
    answered = hub.ask("POST", f"/api/v1/tasks/{old.task_id}/retry", {"taskId": other.task_id}, bearer=token)

    assert (answered.status, answered.code) == (409, "TaskIdInUse")
    assert len(client.list_tasks().tasks) == 2


def test_a_policy_runs_a_failed_task_again(handler: Failing, client: TaskClient) -> None:
    """Two failures are told as they come, with the next run announced; the third run's result is the end. [R-56]"""
    handler.left = 2
    session = client.send_message("flaky", "hi", retry_policy=SOON)

    assert session.text(30) == "done: hi"
    assert len(handler.runs) == 3
    told = [event for event in session.list_events() if event.type == "system"]
    assert [event.status for event in told] == ["queued", "restarted"] * 2
    assert [(event.error, event.error_code) for event in told[::2]] == [("not this time", "handler_error")] * 2
    for event, run, most in ((told[0], 1, 0.2), (told[2], 2, 0.4)):
        head, _, pause = (event.message or "").removesuffix(" s").rpartition(" ")
        assert head == f"run {run} of 3 failed (handler_error); the next one begins in"
        assert most / 2 <= float(pause) <= most
    assert client.get_task(session.task_id).extra["attempt"] == 3


def test_only_the_last_failure_is_the_end(handler: Failing, client: TaskClient) -> None:
    """A task whose every run failed has one terminal event, that of the last run. [R-56]"""
    handler.left = 9
    session = client.send_message("flaky", "hi", retry_policy={"maxAttempts": 2, "initialDelaySec": 0})
    terminal = session.wait_for_terminal(30)

    assert (terminal.state, terminal.error, terminal.epoch) == ("failed", "not this time", 2)
    assert [event.type for event in session.list_events()].count("terminal") == 1
    assert len(handler.runs) == 2


@pytest.mark.parametrize(
    ("error", "policy"),
    [(InputError, SOON), (LookupError, {**SOON, "retryOn": ["timeout"]}), (LookupError, {}), (LookupError, None)],
)
def test_what_is_not_run_again(
    handler: Failing, client: TaskClient, error: type[Exception], policy: dict[str, Any] | None
) -> None:
    """Wrong input is never run again, nor a code that the policy does not name; one run is the default. [R-56]"""
    handler.left, handler.error = 1, error
    terminal = client.send_message("flaky", "hi", retry_policy=policy).wait_for_terminal(30)

    assert terminal.state == "failed"
    assert len(handler.runs) == 1


def test_a_task_that_waits_for_its_next_run(handler: Failing, client: TaskClient) -> None:
    """It is pending and says for what it waits; a cancel ends it at once, and nothing runs again. [R-56]"""
    handler.left = 1
    session = client.send_message(
        "flaky", "hi", retry_policy={"maxAttempts": 2, "initialDelaySec": 3600, "maxDelaySec": 3600}
    )
    wait_until(lambda: [event for event in session.list_events() if event.status == "queued"], 20, "the failure")
    info = client.get_task(session.task_id)

    assert (session.state, info.state, info.extra["waitsFor"]) == ("pending", "pending", "retry")
    assert 1_800_000 <= info.extra["readyAt"] - info.updated_time <= 3_600_000
    assert session.cancel("no more")
    assert session.wait_for_terminal(20).state == "canceled"
    assert len(handler.runs) == 1


def test_a_retry_outlives_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for its next run when the hub ends has it after the hub is back. [R-56] [R-12]"""
    handler = Failing(1)
    with running_hub(state_dir()) as hub:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        port = int(hub.address.url.rpartition(":")[2])
        cdm = f"{hub.address.url}/api/v1/cdm"
        options = AgentInstanceOptions(
            agent_name="flaky", handler=handler, embedded_hub=False, heartbeat_ms=1000, cdm_url=cdm
        )
        instance = start_agent_instance(options)
        client = TaskClient.create("free", cdm_url=cdm, api_key=hub.key)
        instance.wait_ready(30)
        session = client.send_message("flaky", "hi", retry_policy={"maxAttempts": 2, "initialDelaySec": 2})
        wait_until(lambda: [event for event in session.list_events() if event.status == "queued"], 20, "the failure")
    with client, instance, running_hub(state_dir(), port=port):
        assert session.text(60) == "done: hi"
    assert len(handler.runs) == 2


def test_a_policy_that_does_not_fit(client: TaskClient) -> None:
    """It is refused before anything is sent, also for a pipe. [R-48]"""
    with pytest.raises(ValueError, match="does not know maxTries"):
        client.send_message("flaky", "x", retry_policy={"maxTries": 3})
    with pytest.raises(ValueError, match="pipe"):
        client.send_message("flaky", "x", task_kind="pipe", duration=1, retry_policy={})


def test_the_result_is_the_last_runs(hub: Caller, client: TaskClient) -> None:
    """What a run published that failed afterwards is listed, and is no part of the result. [R-16]"""
    handler = Failing(1)

    def publishing(task: StartTaskMessage, ctx: TaskContext) -> str:
        ctx.publish_artifact(b"half", mime_type="text/plain")
        return handler(task, ctx)

    with start_agent_instance(AgentInstanceOptions(agent_name="half", handler=publishing)) as instance:
        instance.wait_ready(30)
        session = client.send_message("half", "hi", retry_policy=SOON)

        assert session.text(30) == "half\ndone: hi"
        assert len(session.list_artifacts()) == 3


def test_the_hub_refuses_what_cannot_run_again(hub: Caller, handler: Failing, client: TaskClient) -> None:
    """A pipe with a policy, and a task that runs at most once, are refused by the hub as well. [R-48]"""
    token = hub.consumer()["accessToken"]
    for fields in ({"taskKind": "pipe", "duration": 1}, {"delivery": "at_most_once"}):
        body = {"agentName": "flaky", "retryPolicy": {"maxAttempts": 2}, **fields}
        answered = hub.ask("POST", "/api/v1/tasks", body, bearer=token)
        assert (answered.status, answered.code) == (400, "InvalidInput")
    assert handler.runs == []
