"""Tasks that are deleted before their time: real hub, worker and client."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import BareRun, Caller, running_hub

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.cli.main import blocks
from blocks_worker.config import state_dir
from blocks_worker.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Run a hub in the state folder of this test, far from the scripts of a clone."""
    monkeypatch.chdir(tmp_path)
    with running_hub(state_dir()) as caller:
        monkeypatch.setenv("BLOCKS_API_KEY", caller.key)
        yield caller


def test_a_task_from_its_end_to_its_purge(hub: Caller) -> None:
    """[J27] [R-64] A session that shows it keeps what it has; whoever comes later is told that it was purged."""
    options = AgentInstanceOptions(agent_name="echo", handler=lambda task: task.text())
    with start_agent_instance(options) as instance, TaskClient.create("free") as client:
        instance.wait_ready(30)
        sessions = [client.send_message("echo", text) for text in ("first", "second", "third")]
        assert [session.text(30) for session in sessions] == ["first", "second", "third"]
        first, second, third = (session.task_id for session in sessions)
        client.purge_task(first)
        client.purge_task(first)

        assert sessions[0].text(1) == "first"
        for act in (client.get_task, client.connect, client.retry_task):
            with pytest.raises(RpcError) as caught:
                act(first)
            assert (caught.value.code, caught.value.status) == ("TaskPurged", 410)
        asked = CliRunner().invoke(blocks, ["purge", second])
        assert (asked.exit_code, "delete 1 task for good?" in asked.stderr) == (1, True)
        done = CliRunner().invoke(blocks, ["purge", second, third[-8:], "nothing", "--yes", "--json"])
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.exit_code == 1
        assert [each.get("purgedBy") for each in told] == ["owner", "owner", None]
        assert "there is no task 'nothing'" in told[2]["error"]
        assert client.list_tasks().tasks == []


def test_what_goes_on_is_refused(hub: Caller) -> None:
    """[J27] A task that has not ended is not purged, and the sentence says what to do."""
    hub.connect("idle")
    with TaskClient.create("free") as client:
        waits = client.send_message("idle", "x")
        with pytest.raises(RpcError, match="cancel it"):
            client.purge_task(waits.task_id)
        waits.cancel()
        client.purge_task(waits.task_id)


def test_purges_beside_readers_and_runs(hub: Caller) -> None:
    """While tasks come, run and are read, each that ends is purged: it is there whole or gone, and none runs. [J27]"""
    instance, consumer = hub.connect("flow", concurrency=4)["accessToken"], hub.consumer()["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 4}, bearer=instance)
    holder = hub.connect("holding")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=holder)
    running = hub.submit(consumer, "holding")
    claimed = BareRun(hub, holder, running)
    held = {"free": 0, "held": [{"taskId": running, "epoch": claimed._turn["epoch"]}]}
    seen: dict[int, int] = {}
    current, over = [running], threading.Event()

    def read() -> None:
        own = Caller(hub.address, hub.key)
        while not over.is_set():
            task = current[-1]
            for path in (f"/api/v1/tasks/{task}", f"/api/v1/tasks/{task}/events", "/api/v1/tasks"):
                answered = own.ask("GET", path, bearer=consumer)
                seen[answered.status] = seen.get(answered.status, 0) + 1
        own.pool.clear()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(15):
            hub.ask("POST", "/api/v1/heartbeats", held, bearer=holder)
            task = hub.submit(consumer, "flow")
            current.append(task)
            hub.run(instance, task, {"type": "progress", "progress": 0.5})
            assert hub.ask("DELETE", f"/api/v1/tasks/{running}", bearer=consumer).status == 409
            assert hub.ask("DELETE", f"/api/v1/tasks/{task}", bearer=consumer).status == 200
            gone = hub.ask("GET", f"/api/v1/tasks/{task}", bearer=consumer)
            assert (gone.status, gone.code) == (410, "TaskPurged")
        wait_until(lambda: seen.get(410), what="a reader of what is gone")
    finally:
        over.set()
        for reader in readers:
            reader.join(20)
    claimed.end()

    assert set(seen) <= {200, 410}
    assert hub.ask("GET", f"/api/v1/tasks/{running}", bearer=consumer).json["state"] == "completed"
