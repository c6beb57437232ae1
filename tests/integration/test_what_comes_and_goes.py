"""What a user gives and gets on the whole way: dicts and objects, fractions, arguments left out, fields passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub

from blocks_worker import (
    AgentInstanceOptions,
    ArtifactRef,
    BillingModeMismatchError,
    RequestPart,
    SendMessageParams,
    SendMessageRequestPart,
    StartTaskMessage,
    TaskClient,
    TaskEvent,
    create_task_client,
    download_artifact,
    get_agent,
    start_agent_instance,
    text_part,
)
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD: dict[str, Any] = {
    "identity": {
        "agentName": "carded",
        "displayName": "Of a card",
        "description": "Known by its card",
        "version": "1.2.3",
    },
    "capabilities": {"taskKinds": ["request"]},
    "tags": [{"id": "demo", "name": "Demo"}],
    "streams": {"log": {"direction": "outbound", "format": "events", "description": "d", "affinity": "dedicated"}},
    "security": {"encryption": {"required": True}},
    "services": {"webhooks": {"url": "https://example.com/hook"}},
    "extensions": {"org.example.price": {"perTask": 3}},
}


@pytest.fixture(autouse=True, scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run one hub for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKS_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        with running_hub(state_dir()) as caller:
            yield caller


@pytest.fixture(autouse=True)
def environment(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name the hub and its key."""
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{hub.address.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)


@pytest.fixture
def client() -> Iterator[TaskClient]:
    """Open a client."""
    with TaskClient.create("free") as made:
        yield made


def test_either_name_of_the_mode_is_taken() -> None:
    """`env` opens a client of that keyset: it sends to free agents, or to paid ones. [R-2]"""
    with start_agent_instance({"agent_name": "modes", "handler": lambda task: task.text()}) as instance:
        instance.wait_ready(30)
        for env in ("playground", "free"):
            with create_task_client(env=env) as client:
                assert client.run("modes", "hi", 20).text == "hi"
        with create_task_client(env="network") as client, pytest.raises(BillingModeMismatchError):
            client.run("modes", "hi", 20)


@pytest.mark.parametrize("form", ["dict", "object"])
def test_dicts_and_objects_mean_the_same(client: TaskClient, form: str) -> None:
    """Options, parameters, parts, results and references are taken as dicts and as objects alike. [D-15]"""
    seen: list[StartTaskMessage] = []

    def handler(task: StartTaskMessage) -> Any:
        seen.append(task)
        return {"artifacts": [{"data": f"{task.part('b')['text']}!", "file_name": "a.txt"}]}

    given: dict[str, Any] = {"agent_name": f"as_{form}", "handler": handler, "concurrency": 2}
    is_dict = form == "dict"
    part: Any = {"partId": "b", "text": "B"} if is_dict else SendMessageRequestPart(part_id="b", text="B")
    message: dict[str, Any] = {"agent_name": f"as_{form}", "request_parts": [text_part("A"), part]}
    with start_agent_instance(given if is_dict else AgentInstanceOptions(**given)) as instance:
        instance.wait_ready(30)
        with client.send_message(message if is_dict else SendMessageParams(**message)) as session:
            assert session.text(20) == "B!"
            (ref,) = session.list_artifacts()

        assert download_artifact(ref.to_dict() if is_dict else ref).data == b"B!"
        assert isinstance(ref, ArtifactRef)
        assert session.wait_for_terminal(5)["state"] == session.wait_for_terminal(5).state == "completed"
        assert instance["agent_name"] == instance.agent_name
    assert [type(each) for each in seen[0].request_parts] == [RequestPart, RequestPart]
    assert seen[0].request_parts[1]["text"] == seen[0].request_parts[1].text == "B"


def test_progress_is_a_fraction(client: TaskClient) -> None:
    """The consumer reads the number that the handler said, between 0 and 1; another one is refused there. [R-62]"""
    refused: list[str] = []

    def handler(_task: Any, ctx: Any) -> str:
        for wrong in (25, -0.1, float("nan")):
            with pytest.raises(ValueError, match="from 0 to 1") as caught:
                ctx.report_progress(wrong)
            refused.append(str(caught.value))
        ctx.report_progress(0.25, "a quarter")
        return "done"

    with start_agent_instance({"agent_name": "fractions", "handler": handler}) as instance:
        instance.wait_ready(30)
        events: list[TaskEvent] = []
        session = client.send_message("fractions", "x")
        session.on_progress(events.append)
        assert session.text(20) == "done"
        wait_until(lambda: session.is_closed, what="callbacks told")

    assert len(refused) == 3
    assert [(event.progress, event.message) for event in events if event.message] == [(0.25, "a quarter")]


def test_what_was_given_is_told_from_what_was_left_out(client: TaskClient) -> None:
    """A stream takes the declared format when none is given and refuses a wrong one; so do texts and parts. [R-53]"""
    said: list[Any] = []

    def handler(task: StartTaskMessage, ctx: Any) -> str:
        with pytest.raises(RuntimeError, match="format"):
            ctx.create_stream(format="bytes")
        # Only a stream of events takes this; that of bytes, which it is elsewhere, would refuse it.
        ctx.create_stream().write({"n": 1})
        said.append(task.text(default=None))
        with pytest.raises(ValueError, match="text"):
            task.text()
        return "done"

    def alone(task: StartTaskMessage) -> str:
        return f"one parameter: {task.task_kind}"

    with (
        start_agent_instance({"handler": handler, "card": CARD}) as first,
        start_agent_instance({"agent_name": "alone", "handler": alone}) as second,
    ):
        first.wait_ready(30)
        second.wait_ready(30)
        assert client.run("carded", [{"partId": "p"}], 20).text == "done"
        assert client.run("alone", "x", 20).text == "one parameter: request"

    assert said == [None]


def test_registered_by_its_card_when_it_connects() -> None:
    """There is no step before: the registry shows what the card says, and later what a newer one says. [D-5]"""
    assert get_agent("carded2") is None
    for version in ("1.0.0", "2.0.0"):
        identity = {**CARD["identity"], "agentName": "carded2", "version": version, "displayName": f"V {version}"}
        with start_agent_instance(
            {"handler": lambda task: task.text(), "card": {**CARD, "identity": identity}}
        ) as made:
            made.wait_ready(30)
            row = get_agent("carded2")

        assert row is not None
        assert (row.name, row.description) == (f"V {version}", "Known by its card")
        assert row.card is not None
        assert row.card["identity"]["version"] == version
        assert [tag["id"] for tag in row.tags] == ["demo"]


def test_what_is_not_offered_is_carried_along(client: TaskClient) -> None:
    """Declared encryption, webhooks and extensions are in the row, a consumer's key comes to the handler. [D-16]"""
    seen: list[Any] = []

    def handler(task: StartTaskMessage, ctx: Any) -> str:
        seen.extend([task.consumer_public_key, ctx.consumer_public_key, task.text()])
        return "in the clear"

    with start_agent_instance({"handler": handler, "card": CARD, "listing": "private"}) as instance:
        instance.wait_ready(30)
        row = get_agent("carded")
        session = client.send_message(agent_name="carded", request_parts="plain", consumer_public_key="pk-1")
        assert session.text(20) == "in the clear"

    assert seen == ["pk-1", "pk-1", "plain"]
    assert row is not None
    assert row.card is not None
    assert {name: row.card[name] for name in ("security", "services", "extensions")} == {
        name: CARD[name] for name in ("security", "services", "extensions")
    }
    assert row.billing_mode == "free"
