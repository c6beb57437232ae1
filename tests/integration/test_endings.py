"""After the end of a task: nothing of it goes on, at the worker, at the hub and on the network."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import FaultProxy, cdm_through
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker import TaskClient, TaskFinishedError, start_agent_instance
from blocks_worker.concurrency import Deadline
from blocks_worker.config import state_dir
from blocks_worker.hub.leases import message_key
from blocks_worker.protocol.control import sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRANTS = "/api/v1/streams/grants"
#: That of the ledger in this process.
SECRET = b"s" * 32


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub."""
    with running_hub(state_dir()) as caller:
        yield caller


class Leaving:
    """A handler that opens a stream and leaves as the text says; threads that it left behind go on trying."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.late: dict[str, list[BaseException]] = {}
        self._left: list[threading.Thread] = []

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        stream = ctx.create_stream()
        stream.write("first")
        self._left.append(threading.Thread(target=self._go_on, args=(task.text(), ctx, stream)))
        self._left[-1].start()
        self.begun.set()
        if task.text() == "raise":
            raise LookupError("on purpose")
        if task.text() == "cancel":
            ctx.wait(20)
        return "done"

    def _go_on(self, text: str, ctx: Any, stream: Any) -> None:
        self.ended.wait(60)
        caught = self.late.setdefault(text, [])
        for act in (
            lambda: ctx.report_status("still here"),
            lambda: ctx.report_progress(0.5),
            lambda: ctx.publish_artifact("too late"),
            ctx.create_stream,
            lambda: ctx.call("echo", "x"),
            lambda: stream.write("too late"),
        ):
            try:
                act()
            except RuntimeError as error:
                caught.append(error)

    def join(self) -> None:
        """Wait for the threads."""
        self.ended.set()
        for thread in self._left:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(("how", "state"), [("return", "completed"), ("raise", "failed"), ("cancel", "canceled")])
def test_nothing_can_be_said_after_the_end(hub: Caller, how: str, state: str) -> None:
    """However a handler left, a thread that it left behind can send nothing; there is one terminal event. [R-43]"""
    handler = Leaving()
    with (
        start_agent_instance({"agent_name": "echo", "handler": handler}) as instance,
        TaskClient.create("free") as client,
    ):
        instance.wait_ready(30)
        session = client.send_message(agent_name="echo", request_parts=how, stream=True)
        if how == "cancel":
            assert handler.begun.wait(30)
            session.cancel()
        assert session.wait_for_terminal(20).state == state
        wait_until(lambda: not instance.active_tasks, what="the answer")
        handler.join()

        late = handler.late[how]
        assert [isinstance(error, TaskFinishedError) for error in late[:5]] == [True] * 5
        assert len(late) == 6
        token = hub.consumer()["accessToken"]
        stored = hub.ask("GET", f"/api/v1/tasks/{session.task_id}/events", bearer=token).json["events"]
    assert [event["type"] for event in stored].count("terminal") == 1
    assert stored[-1]["type"] == "terminal"
    assert "still here" not in str(stored)


def test_the_grant_of_a_stream_goes_with_its_task(hub: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once readers had ten seconds for what they missed, nothing covers the stream of a task that raised. [R-43]"""
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)

    def handler(task: Any, ctx: Any) -> str:
        ctx.create_stream().write(task.text())
        if task.text() == "raise":
            raise LookupError("on purpose")
        ctx.wait(1)
        return "done"

    with FaultProxy(hub.address.url) as proxy, TaskClient.create("free") as client:
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        given = {"agent_name": "echo", "handler": handler, "cdm_url": cdm, "embedded_hub": False}

        def newest_grant(text: str) -> tuple[bytes, bytes]:
            """Run a task with a stream; return its id, and what the worker asked last."""
            session = client.send_message(agent_name="echo", request_parts=text, stream=True)
            session.wait_for_terminal(20)
            return session.task_id.encode(), [each.body for each in proxy.exchanges if each.path == GRANTS][-1]

        with start_agent_instance(given) as instance:
            instance.wait_ready(30)
            first, asked = newest_grant("raise")
            assert first in asked
            wait_until(lambda: first not in newest_grant("x")[1], 60, what="a grant without the stream")


def test_a_lease_is_of_no_use_after_the_end(hub: Caller) -> None:
    """The hub takes no event and no other outcome under the lease of a task that has failed. [R-43]"""
    instance = str(hub.connect()["accessToken"])
    token = hub.consumer()["accessToken"]
    task = hub.submit(token)
    (offer,) = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["offers"]
    turn = {"taskId": task, "epoch": offer["epoch"]}
    lease = hub.ask("POST", "/api/v1/claims", turn, bearer=instance).json["lease"]
    failed = {"state": "failed", "error": "on purpose", "errorCode": "handler_error", "lastN": 0, "digest": "a" * 64}
    completed = {"state": "completed", "lastN": 1, "digest": "b" * 64}
    late = {"n": 1, "body": {"type": "progress", "message": "late"}}

    def report(**more: Any) -> int:
        return hub.ask(
            "POST", "/api/v1/reports", {**turn, "lease": lease, "events": [], **more}, bearer=instance
        ).status

    assert report(outcome=failed) == 200
    assert report(outcome=failed) == 200  # the same again: its answer was lost
    assert [report(outcome=completed), report(events=[late])] == [409, 409]

    stored = hub.ask("GET", f"/api/v1/tasks/{task}/events", bearer=token).json["events"]
    assert [(event["type"], event["state"]) for event in stored if event["type"] == "terminal"] == [
        ("terminal", "failed")
    ]
    assert hub.ask("GET", f"/api/v1/tasks/{task}", bearer=token).json["state"] == "failed"


class Bell:
    """Ring once more, with a number of its own, for the first offer that a bus carried."""

    def __init__(self, hub: LedgerInProcess, incarnation: str) -> None:
        self._hub = hub
        self._bus = hub.bus
        self._key = message_key(SECRET, incarnation)
        (self._channel,) = hub.bus.ears[0].channels

    def ring(self) -> None:
        """Say the offer again."""
        first = next(body for body in self._bus.heard if '"StartTask"' in body.get("control", ""))
        # Where the hub numbers its own words, so that none comes between.
        self._hub.write(lambda _ledger: self._say(first["control"].encode()))

    def _say(self, control: bytes) -> None:
        bell = self._hub.tasks.bell
        bell.sequence += 1
        again = sign(control, bell.sequence, self._key)
        self._bus.publish(self._channel, [msgspec.to_builtins(again)], Deadline(1))


def test_an_offer_that_comes_again_starts_nothing() -> None:
    """Rung again while the task runs and after its end, with a number of its own: the handler runs once. [R-14] [B1]"""
    runs: list[str] = []
    go = threading.Event()

    def handler(task: Any) -> str:
        runs.append(task.task_id)
        go.wait(60)
        return "done"

    with LedgerInProcess() as hub, WorkerAtHub(hub, handler, slots=3) as at:
        worker = at.ready()
        bell = Bell(hub, at.login.incarnation)
        task = hub.submit()
        hub.running(task)
        bell.ring()
        wait_until(lambda: worker.counters.get("offers_ignored_duplicate") == 1, what="the repeat while it runs")
        go.set()
        hub.ended(task)
        wait_until(lambda: not worker.active_tasks, what="the answer")
        bell.ring()
        wait_until(lambda: worker.counters.get("offers_ignored_duplicate") == 2, what="the repeat after the end")
        other = hub.submit()

        assert hub.ended(other).state == "completed"
        assert runs == [task, other]
        assert [call for call, _ in at.login.calls].count("claims") == 2
