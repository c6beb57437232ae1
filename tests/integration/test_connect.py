"""Joining tasks that exist, against a real hub and its network; the worker's side is driven over bare HTTP."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun as Run
from support_hub import Caller, running_hub

from blocks_worker.client.client import TaskClient
from blocks_worker.config import state_dir
from blocks_worker.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = {"type": "progress", "progress": 0, "state": "running"}
#: Seconds in which an event is here when the network brings it; the poll comes long after.
SOON = 30.0
LATE = 1_000.0


def artifact(data: bytes) -> dict[str, Any]:
    """Return a worker's artifact event."""
    ref = {"kind": "inline", "mimeType": "text/plain", "size": len(data), "data": base64.b64encode(data).decode()}
    return {"type": "artifact", "artifactRef": ref}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Run a hub in the state folder of this test, whose clients poll late."""
    monkeypatch.setattr("blocks_worker.client.core.SESSION_POLL", LATE)
    with running_hub(state_dir()) as caller:
        yield caller


def connect(hub: Caller, agent: str = "echo", mode: str = "free") -> str:
    """Connect an instance with room for 8 and return its token."""
    token = hub.connect(agent, concurrency=8, billingMode=mode, listing="public")["accessToken"]
    nonce = hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=token).json["nonce"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 8, "nonce": nonce}, bearer=token)
    return str(token)


@pytest.fixture
def instance(hub: Caller) -> str:
    """Connect an instance of echo."""
    return connect(hub)


@pytest.fixture
def sender(hub: Caller) -> Iterator[TaskClient]:
    """Open the client that sends."""
    with TaskClient.create("free") as made:
        yield made


@pytest.fixture
def other(hub: Caller) -> Iterator[TaskClient]:
    """Open the client that joins."""
    with TaskClient.create("free") as made:
        yield made


def test_a_task_that_is_over(hub: Caller, instance: str, sender: TaskClient, other: TaskClient) -> None:
    """[A-10] It gives a complete, closed session without listening to anything. [D-3]"""
    first = sender.send_message("echo", "hi")
    hub.run(instance, first.task_id, RUNNING, artifact(b"hi"))
    first.wait_for_terminal(10)
    session = other.connect(task_id=first.task_id, drain_window_s=5.0)

    assert (session.state, session.is_closed, session.idempotent) == ("completed", True, False)
    assert (session.owner_id, session.status_channel) == (first.owner_id, first.status_channel)
    assert session.list_events() == first.list_events() == list(session)
    assert session.text(0) == "hi"
    assert other._core._subscriptions._transport is None


def test_a_task_that_runs(hub: Caller, instance: str, sender: TaskClient, other: TaskClient) -> None:
    """[A-10] Its past is there, its future comes live, and nothing between is missing. [A10]"""
    task_id = sender.send_message("echo", "hi").task_id
    run = Run(hub, instance, task_id)
    run.say(RUNNING, artifact(b"one"))
    session = other.connect(task_id)
    assert (session.state, len(session.list_artifacts())) == ("running", 1)

    run.say({"type": "progress", "progress": 0.5, "message": "half"}, artifact(b"two"))
    wait_until(lambda: len(session.list_artifacts()) == 2, SOON, "the second artifact, live")
    run.end()

    assert session.wait_for_terminal(SOON).state == "completed"
    assert [event.type for event in session] == ["progress", "artifact", "progress", "artifact", "terminal"]
    assert session.text(0) == "one\ntwo"


def test_what_late_callbacks_are_told(hub: Caller, instance: str, sender: TaskClient, other: TaskClient) -> None:
    """[3.7] A session of `connect` tells a callback of earlier artifacts and of the end, not of earlier progress."""
    task_id = sender.send_message("echo", "hi").task_id
    run = Run(hub, instance, task_id)
    run.say(RUNNING, artifact(b"one"))
    session = other.connect(task_id)
    heard: list[str] = []
    session.on_event(lambda event: heard.append(f"every {event.type}"))
    session.on_progress(lambda event: heard.append(f"progress {event.message}"))
    session.on_artifact(lambda _event: heard.append("artifact"))
    wait_until(lambda: heard == ["every artifact", "artifact"], what="what was before")
    run.say({"type": "progress", "progress": 0.5, "message": "half"})
    run.end()
    session.wait_for_terminal(10)
    session.on_terminal(lambda _event: heard.append("terminal"))

    wait_until(lambda: heard[-1:] == ["terminal"], what="the end")
    assert heard[2:] == ["every progress", "progress half", "every terminal", "terminal"]


def test_either_billing_mode(hub: Caller, other: TaskClient) -> None:
    """[R-49] A client in one mode joins a task of the other one, live."""
    instance = connect(hub, "dear", "paid")
    with TaskClient.create("paid") as paid:
        task_id = paid.send_message("dear", "hi").task_id
        session = other.connect(task_id)
        hub.run(instance, task_id, RUNNING, artifact(b"hi"))

        assert session.text(SOON) == "hi"


def test_found_by_its_key(hub: Caller, instance: str, sender: TaskClient, other: TaskClient) -> None:
    """[R-16] A submit that finds a running task is told of it live, with its past."""
    first = sender.send_message(agent_name="echo", request_parts="hi", idempotency_key="k")
    run = Run(hub, instance, first.task_id)
    run.say(RUNNING, artifact(b"one"))
    again = other.send_message(agent_name="echo", request_parts="hi", idempotency_key="k")
    assert (again.task_id, again.idempotent, first.idempotent) == (first.task_id, True, False)
    assert len(again.list_artifacts()) == 1
    run.end()

    assert again.wait_for_terminal(SOON).state == "completed"


def test_refusals(hub: Caller, other: TaskClient) -> None:
    """[A-10] No such task, another role, a client that is destroyed: each is told at once."""
    with pytest.raises(RpcError) as caught:
        other.connect("nothing")
    assert caught.value.code == "NotFound"
    with pytest.raises(ValueError, match="'consumer' or 'provider'"):
        other.connect("nothing", role="owner")
    other.destroy()
    with pytest.raises(RuntimeError, match="destroyed"):
        other.connect("nothing")


def test_open_sessions_follow_a_login_that_began_anew(hub: Caller, instance: str, sender: TaskClient) -> None:
    """Sessions from before are told on the new channel, without waiting for a poll."""
    session = sender.send_message("echo", "hi")
    run = Run(hub, instance, session.task_id)
    run.say(RUNNING)
    login = sender._core.login
    login._keeper.use(login._acquire())
    wait_until(lambda: session.heard_on == login.session_channel, what="the new channel")
    run.say(artifact(b"one"))

    wait_until(session.list_artifacts, SOON, "the artifact, live")
    run.end()
    assert session.wait_for_terminal(SOON).state == "completed"


def test_a_hub_that_restarts_knows_who_listens() -> None:
    """Who joined before a restart of the hub is told after it."""
    with running_hub(state_dir()) as hub:
        instance = connect(hub)
        sender, other = TaskClient.create("free"), TaskClient.create("free")
        sent = sender.send_message("echo", "hi")
        session = other.connect(sent.task_id)
        port = int(hub.address.url.rpartition(":")[2])
    with sender, other, running_hub(state_dir(), port=port) as hub:
        assert session.heard_on == other._core.login.session_channel
        hub.run(instance, sent.task_id, RUNNING, artifact(b"hi"))

        assert session.text(30) == "hi"


def test_a_slow_reader_misses_nothing(hub: Caller, instance: str, sender: TaskClient, other: TaskClient) -> None:
    """[3.7] A reader gets more events than a session keeps, as does one who joined after the end. [A15]"""
    session = sender.send_message("echo", "hi")
    reader = iter(session)
    run = Run(hub, instance, session.task_id)
    run.say(RUNNING)
    first = next(reader)
    for start in range(0, 400, 100):
        run.say(*({"type": "progress", "message": str(start + number)} for number in range(100)))
    run.end()
    session.wait_for_terminal(10)

    expected = [None, *(str(number) for number in range(400)), None]
    assert [event.message for event in (first, *reader)] == expected
    assert [event.message for event in other.connect(session.task_id)] == expected
