"""What a provider may say of an instance, on the whole way: a hub, an instance and a client over the network."""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import let_in, running_hub

from blocks_worker import (
    AgentAuthFatalError,
    AgentInstanceOptions,
    TaskClient,
    build_artifact_ref,
    create_pubnub_client,
    get_agent,
    start_agent_instance,
    text_part,
)
from blocks_worker.errors import PublishRefusedError, TaskFinishedError
from blocks_worker.handlers.base import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support_hub import Caller

    from blocks_worker.context.messages import StartTaskMessage


def echo(task: Any, _ctx: Any = None) -> dict[str, Any]:
    """Return the first part as JSON, as the sample of the pages does."""
    return {"artifacts": [{"data": json.dumps(task.request_parts[0]), "mimeType": "application/json"}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Caller]]:
    """Run a hub for the tests of this file."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder) as caller:
        yield folder, caller


@pytest.fixture
def hub(running: tuple[Path, Caller], monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Let the environment name that hub."""
    folder, caller = running
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(folder))
    monkeypatch.setenv("BLOCKS_CDM_URL", cdm(caller))
    return caller


def cdm(hub: Caller) -> str:
    """Return the address of the document."""
    return f"{hub.address.url}/api/v1/cdm"


def network_of(hub: Caller) -> dict[str, Any]:
    """Return what a client of the network needs."""
    document = hub.ask("GET", "/api/v1/cdm").json
    return {
        "publish_key": document["playground"]["publishKey"],
        "subscribe_key": document["playground"]["subscribeKey"],
        "origin": document["origin"],
    }


@pytest.mark.usefixtures("hub")
def test_every_option_and_the_sample_handler() -> None:
    """Every option is taken, and the instance answers by attribute, by item and by `in`. [A-4] [R-1]"""
    options = AgentInstanceOptions(
        agent_name="all_options",
        handler=echo,
        card={"identity": {"agentName": "all_options", "displayName": "All", "description": "d", "version": "1"}},
        description="Says it again",
        capabilities=["echo", "again"],
        tags=[{"id": "again", "name": "Again"}],
        skills=["third"],
        concurrency=2,
        expected_instances=1,
        max_pending_backlog=7,
        max_running_time_sec=30,
        heartbeat_ms=2000,
        instance_id="all-options-1",
        user_id="somebody",
        on_error=lambda _task, _error: None,
        card_ref="card://1",
        card_summary="Says it",
        listing="private",
        artifact_base_path="/tmp/x",  # noqa: S108 - without effect
        log_channel="logs",
        transport="pubnub",
        on_fatal=lambda _error: None,
        drain_timeout=1,
    )
    with start_agent_instance(options) as result, TaskClient.create("free") as client:
        result.wait_ready(30)
        answer = client.run("all_options", [text_part("Hello")], 30)
        row = get_agent("all_options")

        assert json.loads(answer.text)["text"] == "Hello"
        assert "agent_name" in result
        assert result["agent_name"] == result.agent_name == "all_options"
        assert result["instance_id"] == "all-options-1"
        assert result.keys() == ("stop", "agent_name", "instance_id")
        assert result.get("user_id") == "somebody"
        assert result.get("nothing") is None
        assert callable(result["publish_terminal"])
        assert callable(result["fail_stream"])
        assert result.cdm_config is not None
        assert result.pubnub is result["pubnub"]
        result["stop"]()
        result.stop()
    assert row is not None
    assert (row.card_ref, row.card_summary, row.listing) == ("card://1", "Says it", "private")
    assert [tag["id"] for tag in row.tags] == ["again", "third", "echo"]
    assert (row.scaling.concurrency, row.scaling.max_pending_backlog) == (2, 7)
    with pytest.raises(RuntimeError, match="stopped"):
        _ = result.pubnub


@pytest.mark.usefixtures("hub")
def test_the_registry_row_counts_for_the_listing() -> None:
    """What is stored when the row is made stays, whatever a later start says."""
    for listing in ("private", "public"):
        start_agent_instance({"agent_name": "listed", "handler": echo, "listing": listing}).stop(0)

    row = get_agent("listed")
    assert row is not None
    assert row.listing == "private"


@pytest.mark.usefixtures("hub")
def test_an_agent_object_takes_the_place_of_the_handler() -> None:
    """`agent` is a Handler or another callable object."""
    with (
        start_agent_instance({"agent_name": "by_agent", "agent": Handler.of(echo)}) as instance,
        TaskClient.create("free") as client,
    ):
        instance.wait_ready(30)
        assert client.run("by_agent", "Hi", 30).json()["text"] == "Hi"


def test_the_clients_keys_and_user_are_used(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a client of the network no document is asked for, and the client is still there after the end. [R-1]"""
    monkeypatch.setenv("BLOCKS_CDM_URL", "http://127.0.0.1:9/api/v1/cdm")
    network = create_pubnub_client(**network_of(hub), user_id="provider-7")
    options = {"agent_name": "by_client", "handler": echo, "pubnub": network, "base_url": hub.address.url}
    with start_agent_instance(options) as instance, TaskClient.create("free", cdm_url=cdm(hub)) as client:
        instance.wait_ready(30)
        assert instance.pubnub is network
        assert instance.cdm_config is None
        assert client.run("by_client", "Hi", 30).json()["text"] == "Hi"
        assert instance.task_client.run("by_client", "Ho", 30).json()["text"] == "Ho"
    assert network.config.user_id == "provider-7"
    network.stop()


def test_the_hub_may_be_told_by_its_address(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """`base_url` is where the hub is; the document is looked for below it."""
    monkeypatch.delenv("BLOCKS_CDM_URL")
    options = {"agent_name": "by_base", "handler": echo, "base_url": f"{hub.address.url}/"}
    with start_agent_instance(options) as instance:
        instance.wait_ready(30)
        assert instance.hub_url == hub.address.url


@pytest.mark.usefixtures("hub")
def test_a_token_for_the_start_may_be_stale() -> None:
    """A grant that the network refuses is replaced by the hub's."""
    with start_agent_instance({"agent_name": "stale", "handler": echo, "token": "no grant"}) as instance:
        instance.wait_ready(30)


def test_a_refused_key_is_told_by_the_start(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub refuses at its first word is raised where the instance was asked for."""
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_" + "0" * 40)
    with pytest.raises(AgentAuthFatalError) as refused:
        start_agent_instance({"agent_name": "refused", "handler": echo})
    assert refused.value.code == "API_KEY_INVALID"
    assert hub.address.url


def test_another_owners_name_is_told_by_the_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that belongs to somebody else is a RuntimeError at the start."""
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path))
    with running_hub(tmp_path):
        pass
    key = let_in(tmp_path, "bob")
    with running_hub(tmp_path) as hub:
        hub.connect("mine", key=key)
        with pytest.raises(RuntimeError, match="belongs to somebody else"):
            start_agent_instance({"agent_name": "mine", "handler": echo})


def test_a_missing_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from this machine a missing key is a RuntimeError, and nobody was asked for a name. [A-5]"""
    monkeypatch.setenv("BLOCKS_CDM_URL", "https://hub.example.test/api/v1/cdm")

    def resolve(*_asked: Any, **_more: Any) -> Any:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(RuntimeError, match="BLOCKS_API_KEY"):
        start_agent_instance(AgentInstanceOptions(agent_name="away", handler=echo))
    with pytest.raises(ValueError, match="no agent name"):
        start_agent_instance(AgentInstanceOptions(handler=echo))


# ------------------------------------------------------------------------------------------------ overrides


def send(pubnub: Any, channel: str, message: dict[str, Any]) -> Any:
    """Publish as code written for the SDK does."""
    return pubnub.publish().channel(channel).message(message).sync()


@pytest.mark.usefixtures("hub")
def test_an_override_publishes_for_its_task() -> None:
    """Progress, artifact, system event and terminal of an override are recorded and shown, in order. [R-52]"""
    after: list[BaseException] = []

    def on_start_task(task: StartTaskMessage, pubnub: Any) -> None:
        channel = f"u.{task.owner_id}.{task.task_id}"
        head = {"taskId": task.task_id}
        answer = send(pubnub, channel, {**head, "type": "progress", "progress": 0.5, "message": "half"})
        assert not answer.status.is_error()
        ref = build_artifact_ref(data=task.text().upper().encode(), mime_type="text/plain")
        pubnub.publish().channel(channel).message({**head, "type": "artifact", "artifactRef": ref}).meta(
            {"a": 1}
        ).should_store(True).sync()
        send(pubnub, channel, {**head, "type": "system", "status": "warning", "message": "careful"})
        send(pubnub, channel, {**head, "type": "terminal", "state": "completed"})
        for message in ({**head, "type": "progress", "progress": 0.9}, {**head, "type": "terminal", "state": "failed"}):
            try:
                send(pubnub, channel, message)
            except TaskFinishedError as error:
                after.append(error)

    with (
        start_agent_instance({"agent_name": "taken_over", "on_start_task": on_start_task}) as instance,
        TaskClient.create("free") as client,
        client.send_message("taken_over", "hello") as session,
    ):
        assert session.result(30).text == "HELLO"
        said = [event for event in session.list_events() if event.type != "progress" or event.message]
        assert [event.type for event in said] == ["progress", "artifact", "system", "terminal"]
        wait_until(lambda: len(after) == 2, what="both publishes after the end to be refused")
        wait_until(lambda: instance.counters.get("tasks_completed") == 1, what="the count")
        assert instance.counters.get("late_results", 0) == 0


@pytest.mark.usefixtures("hub")
def test_an_override_may_publish_its_terminal_later() -> None:
    """A task whose override has returned goes on until another thread publishes its end, and holds its slot. [R-52]"""
    held: list[tuple[str, str, Any]] = []

    def on_start_task(task: StartTaskMessage, pubnub: Any) -> None:
        held.append((f"u.{task.owner_id}.{task.task_id}", task.task_id, pubnub))

    with (
        start_agent_instance({"agent_name": "later", "on_start_task": on_start_task}) as instance,
        TaskClient.create("free") as client,
        client.send_message("later", "x") as session,
    ):
        wait_until(lambda: bool(held), what="the start")
        channel, task_id, pubnub = held[0]
        assert instance.active_tasks == [task_id]
        with pytest.raises(ValueError, match="not 'strange'"):
            send(pubnub, channel, {"type": "strange"})
        with pytest.raises(PublishRefusedError, match="give pubnub="):
            send(pubnub, "elsewhere", {"a": 1})
        with pytest.raises(AttributeError):
            pubnub.subscribe()
        send(pubnub, channel, {"type": "terminal", "state": "failed", "error": "no", "errorCode": "bad_result"})
        terminal = session.wait_for_terminal(30)
        assert (terminal.state, terminal.error) == ("failed", "no")
        wait_until(lambda: instance.state == "ready", what="the slot")


@pytest.mark.usefixtures("hub")
def test_a_failing_override_is_a_failed_task() -> None:
    """An exception of an override is the failed terminal, told to `on_error`. [R-52]"""
    told: list[tuple[str, str]] = []

    def on_start_task(_task: StartTaskMessage, _pubnub: Any) -> None:
        raise OSError("no disk")

    options = {
        "agent_name": "failing",
        "on_start_task": on_start_task,
        "on_error": lambda task_id, error: told.append((task_id, str(error))),
    }
    with (
        start_agent_instance(options),
        TaskClient.create("free") as client,
        client.send_message("failing", "x") as session,
    ):
        assert session.wait_for_terminal(30).error == "no disk"
        wait_until(lambda: told, what="the word of it")
        assert told == [(session.task_id, "no disk")]


@pytest.mark.usefixtures("hub")
def test_a_cancel_is_told_in_place_of_the_event() -> None:
    """`on_cancel_task` gets task and network; the run's own event stays as it is."""
    told: list[str] = []
    contexts: list[Any] = []
    go = threading.Event()

    def handler(_task: Any, ctx: Any) -> str:
        contexts.append(ctx)
        assert go.wait(30)
        return "cancelled" if ctx.is_cancelled else "in peace"

    def on_cancel_task(task_id: str, pubnub: Any) -> None:
        assert callable(pubnub.publish)
        told.append(task_id)
        go.set()

    options = {"agent_name": "told", "handler": handler, "on_cancel_task": on_cancel_task}
    with (
        start_agent_instance(options),
        TaskClient.create("free") as client,
        client.send_message("told", "x") as session,
    ):
        wait_until(lambda: bool(contexts), what="the start")
        session.cancel()
        assert session.wait_for_terminal(30).state == "canceled"
        assert told == [session.task_id]
        assert not contexts[0].is_cancelled
        assert session.list_artifacts()


@pytest.mark.usefixtures("hub")
def test_what_is_changed_or_idle_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """An option that is changed, outvoted or without effect is one line in the log. [R-10]"""
    card = {"identity": {"agentName": "notes"}, "runtime": {"maxRunningTimeSec": 60}}
    options = {
        "card": card,
        "handler": echo,
        "heartbeat_ms": 1,
        "max_running_time_sec": 30,
        "log_channel": "x",
    }
    with caplog.at_level(logging.DEBUG, "blocks_worker"), start_agent_instance(options):
        pass
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    wanted = [
        ("WARNING", "heartbeat_changed"),
        ("INFO", "limit_chosen"),
        ("DEBUG", "options_without_effect"),
    ]
    assert [line for line in lines if line in wanted] == wanted
