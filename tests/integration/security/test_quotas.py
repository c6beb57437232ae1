"""What one owner, or one run, may have of a hub, on the whole way: hub, client and worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun, Caller, running_hub

from blocks_worker import EventQuotaError, QuotaExceededError, TaskClient, start_agent_instance
from blocks_worker.client.parts import file_part
from blocks_worker.errors import FileUploadError
from blocks_worker.hub.audit import REFUSALS
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUOTAS = Quotas(open_tasks=60, submits=25, input_bytes=200_000, run_events=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the state folder of the hub."""
    return tmp_path_factory.mktemp("quotas")


@pytest.fixture(scope="module")
def place(folder: Path) -> Iterator[Caller]:
    """Run a hub that gives little."""
    with running_hub(folder, quotas=QUOTAS) as caller:
        yield caller


@pytest.fixture
def client(place: Caller, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskClient]:
    """Open a client of that hub."""
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{place.address.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", place.key)
    with TaskClient.create("free") as made:
        yield made


def test_who_sends_too_fast_waits_and_loses_nothing(place: Caller, client: TaskClient) -> None:
    """[G15] More than a second's share at once is sent again until it is taken: each task is there once."""
    place.connect("idle")
    sessions = client.send_many([{"agent_name": "idle", "request_parts": str(n)} for n in range(59)])
    listed = client.list_tasks().tasks

    assert len({session.task_id for session in sessions}) == len(listed) == 59
    for session in sessions:
        session.cancel()


def test_who_has_too_many_open_tasks_is_told_at_once(place: Caller, client: TaskClient, folder: Path) -> None:
    """[G15] One task more than an owner may have open is refused with its quota; audit and metrics know of it."""
    place.connect("idle")
    token = place.consumer()["accessToken"]
    sessions = [client.send_message("idle", str(n)) for n in range(QUOTAS.open_tasks)]
    with pytest.raises(QuotaExceededError) as caught:
        client.send_message("idle", "one more")
    answered = place.ask("POST", "/api/v1/tasks", {"agentName": "idle"}, bearer=token)
    for session in sessions:
        session.cancel()
    again = {"agentName": "idle", "taskId": "again"}
    wait_until(lambda: place.ask("POST", "/api/v1/tasks", again, bearer=token).status < 300, what="room again")

    assert (caught.value.status, caught.value.quota, caught.value.limit) == (429, "openTasks", QUOTAS.open_tasks)
    assert (answered.status, answered.code, answered.headers["retry-after"]) == (429, "QuotaExceeded", "5")
    lines = [json.loads(line) for line in (folder / REFUSALS).read_text(encoding="utf-8").splitlines()]
    assert any(line["code"] == "QuotaExceeded" and line["by"] for line in lines)
    metrics = place.ask("GET", "/metrics", bearer=token).body.decode()
    assert 'blocks_hub_quota_refused_total{quota="openTasks"}' in metrics


def test_inputs_beyond_the_share_are_refused_before_they_are_sent(place: Caller, client: TaskClient) -> None:
    """[G15] A file that is larger than all that an owner may keep is refused, and no byte of it travels."""
    place.connect("idle")
    with pytest.raises(FileUploadError, match="more than the 200000 of one owner"):
        client.send_message("idle", [file_part(b"x" * 300_000)])


def test_a_chatty_handler_gets_an_error_and_its_task_an_end(client: TaskClient) -> None:
    """[G14] Past its events a run's emit raises; the task fails with `event_quota`, and the next one is served."""
    raised: list[BaseException] = []

    def handler(task: Any, ctx: Any) -> str:
        try:
            for number in range(1000 if task.text() == "much" else 3):
                ctx.publish_artifact(f"{number}")
        except EventQuotaError as error:
            raised.append(error)
            raise
        return "done"

    with start_agent_instance({"agent_name": "chatty", "handler": handler}) as instance:
        instance.wait_ready(30)
        ended = client.send_message("chatty", "much").wait_for_terminal(20)
        fine = client.send_message("chatty", "little").wait_for_terminal(20)

    assert (ended.state, ended.error_code, len(raised)) == ("failed", "event_quota", 1)
    assert "a run may store 20 events" in (ended.error or "")
    assert fine.state == "completed"


def test_a_worker_that_minds_no_quota_is_refused_by_the_hub(place: Caller) -> None:
    """[G14] Who reports more events than one run may store gets 413, and can still end the task."""
    instance = place.connect("loud")["accessToken"]
    token = place.consumer()["accessToken"]
    task = place.submit(token, "loud")
    run = BareRun(place, instance, task)
    run.say(*[{"type": "progress", "message": str(n)} for n in range(20)])
    more = {**run._turn, "events": [{"n": 21, "body": {"type": "progress", "message": "one more"}}]}
    refused = place.ask("POST", "/api/v1/reports", more, bearer=instance)
    run.end("failed", error="too much", errorCode="event_quota")
    row = place.ask("GET", f"/api/v1/tasks/{task}", bearer=token).json

    assert (refused.status, refused.code) == (413, "event_quota")
    assert (row["state"], row["errorCode"], row["lastN"]) == ("failed", "event_quota", 20)
