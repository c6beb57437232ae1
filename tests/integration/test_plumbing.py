"""The names that few users import, used for what they are: over a real hub and its network."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from pubnub.callbacks import SubscribeCallback
from support import wait_until
from support_hub import running_hub

from blocks_worker import (
    DEFAULT_CDM_URL,
    AnonTaskAccessDenied,
    AnonTaskAccessDeniedError,
    BlocksError,
    CallbackErrorContext,
    CdmApiConfig,
    CdmConfig,
    CdmKeyset,
    ChannelManager,
    CredentialCache,
    DownloadedArtifact,
    ListTasksParams,
    ListTasksResult,
    StreamRegistry,
    TaskClient,
    TaskInfo,
    TokenResult,
    create_channel_manager,
    create_pubnub_client,
    fetch_cdm_config,
    start_agent_instance,
)
from blocks_worker.artifacts import FileReader, artifact_pieces, as_ref
from blocks_worker.config import state_dir
from blocks_worker.errors import ArtifactError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support_hub import Caller


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Open a client of the hub."""
    assert hub.address.url
    with TaskClient.create("free") as made:
        yield made


def test_the_document_as_an_object(hub: Caller) -> None:
    """Address, keysets and interface of a hub are read by name; the usual address is on this machine. [D-1]"""
    cdm = fetch_cdm_config(f"{hub.address.url}/api/v1/cdm")

    assert isinstance(cdm, CdmConfig)
    assert isinstance(cdm.playground, CdmKeyset)
    assert isinstance(cdm.api, CdmApiConfig)
    assert cdm.api.base_url == cdm.hub_url == hub.address.url
    assert cdm.playground.subscribe_key != cdm.network.subscribe_key
    assert (cdm.keyset("free"), cdm.keyset("paid")) == (cdm.playground, cdm.network)
    usual = urlsplit(DEFAULT_CDM_URL)
    assert (usual.scheme, usual.hostname, usual.port, usual.path) == ("http", "127.0.0.1", 3001, "/api/v1/cdm")


def test_channels_that_several_want(hub: Caller) -> None:
    """A channel is listened to as long as anybody wants it, and left with the last; what is said meanwhile is heard."""
    instance = hub.connect()
    document = hub.ask("GET", "/api/v1/cdm").json
    heard: list[Any] = []
    network = create_pubnub_client(
        subscribe_key=document["playground"]["subscribeKey"], publish_key=document["playground"]["publishKey"],
        origin=document["origin"], user_id="echo-1", token=instance["pamToken"],
    )  # fmt: skip
    network.add_listener(Ear(heard))
    channel = instance["controlChannel"]
    with create_channel_manager(network) as manager:
        assert isinstance(manager, ChannelManager)
        manager.acquire(channel)
        manager.acquire(channel)
        manager.release(channel)
        assert manager.channels == [channel]
        wait_until(lambda: _offered(hub, instance, heard), 20, what="an offer on the channel")
        manager.release(channel)
        manager.release(channel)
        assert manager.channels == []
        assert network.get_subscribed_channels() == []
    network.stop()


class Ear(SubscribeCallback):
    """A listener of the SDK that keeps messages."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    def message(self, _network: Any, event: Any) -> None:
        """Keep it."""
        self._heard.append(event.message)

    def status(self, _network: Any, _status: Any) -> None:
        """Pass."""

    def presence(self, _network: Any, _event: Any) -> None:
        """Pass."""


def _offered(hub: Caller, instance: dict[str, Any], heard: list[Any]) -> bool:
    """Have the hub say something on the instance's channel; tell whether it was heard."""
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance["accessToken"])
    return bool(heard)


def test_of_many_who_want_a_token_one_gets_it() -> None:
    """Twenty threads cause one request, the token is kept, and one that was refused is asked for anew."""
    cache, made, got = CredentialCache(), [], []
    start = threading.Barrier(20)

    def acquire() -> TokenResult:
        made.append(threading.get_ident())
        return TokenResult(f"token-{len(made)}", expires_in=3600)

    def want() -> None:
        start.wait(10)
        got.append(cache.get("hub", acquire))

    threads = [threading.Thread(target=want) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert (got, len(made)) == (["token-1"] * 20, 1)
    assert cache.drop("hub") is True
    assert cache.drop("hub") is False
    assert cache.get("hub", acquire) == "token-2"
    assert cache.get("other", acquire) == "token-3"
    cache.clear()
    assert cache.get("hub", acquire) == "token-4"


def test_a_stored_artifact_in_all_its_forms(client: TaskClient, tmp_path: Path) -> None:
    """A session and a client read the file store; a reference may be a dict; what comes is text, or a file."""
    text = "line\n" * 10_000
    with start_agent_instance({"agent_name": "long", "handler": lambda _task: text}) as instance:
        instance.wait_ready(30)
        session = client.send_message("long", "x")
        session.wait_for_terminal(20)
    (ref,) = session.list_artifacts()

    assert ref.kind == "file"
    assert as_ref(ref) is ref
    assert as_ref(ref.to_dict()) == ref
    for source in (client, session):
        assert isinstance(source, FileReader)
        pieces = list(artifact_pieces(ref, source))
        assert b"".join(pieces) == text.encode()
        assert max(map(len, pieces)) <= 65_536
    loaded = session.download_artifact(ref)
    assert isinstance(loaded, DownloadedArtifact)
    assert (loaded.text(), loaded.mime_type) == (text, "text/plain")
    assert loaded.save(tmp_path / "here.txt").read_text() == text
    with pytest.raises(ArtifactError, match="UTF-8"):
        DownloadedArtifact(b"\xff").text()
    with pytest.raises(ArtifactError, match="TaskClient or TaskSession"):
        list(artifact_pieces(ref, None))


def test_tasks_are_listed_as_objects(client: TaskClient) -> None:
    """A page has tasks with their times, and leads on to the next; what else the hub tells is in `extra`."""
    with start_agent_instance({"agent_name": "listed", "handler": lambda task: task.text()}) as instance:
        instance.wait_ready(30)
        ids = [client.run("listed", str(number), 20).task_id for number in range(3)]
    first = client.list_tasks(ListTasksParams(agent_name="listed", limit=2))
    rest = client.list_tasks(ListTasksParams(agent_name="listed", limit=2, cursor=first.next))

    assert isinstance(first, ListTasksResult)
    assert isinstance(first.tasks[0], TaskInfo)
    assert [task.task_id for task in (*first.tasks, *rest.tasks)] == ids[::-1]
    assert rest.next is None
    newest = first.tasks[0]
    assert (newest.agent_name, newest.owner, newest.state) == ("listed", client.get_user_id(), "completed")
    assert newest.created_time <= newest.updated_time
    assert newest.extra["attempt"] == 1


def test_an_error_of_a_callback_says_where_it_was(client: TaskClient) -> None:
    """Besides the exception the context names entry point, kind of callback and event."""
    told: list[tuple[Exception, CallbackErrorContext]] = []
    with start_agent_instance({"agent_name": "calls", "handler": lambda task: task.text()}) as instance:
        instance.wait_ready(30)
        session = client.send_message("calls", "x")
        session.on_error(lambda error, context: told.append((error, context)))
        session.on_terminal(lambda _event: {}["nothing"])
        session.wait_for_terminal(20)
        wait_until(lambda: told, what="the report")

    ((error, context),) = told
    assert isinstance(error, KeyError)
    assert isinstance(context, CallbackErrorContext)
    assert (context.entry_point, context.callback_type) == ("taskSession", "onTerminal")
    assert context.event.state == "completed"


def test_what_several_share_goes_with_the_last() -> None:
    """A stream is made for its first user, found by the others, and closed once, when the last one goes."""
    closed: list[str] = []
    registry: StreamRegistry[str] = StreamRegistry(close=closed.append)
    shared = {registry.acquire("s", user, partial("made for {}".format, user)) for user in (1, 2, 3)}

    assert shared == {"made for 1"}
    assert (registry.find("s"), registry.ids()) == ("made for 1", ["s"])
    assert [registry.release("s", user) for user in (1, 1, 2, 3, 3)] == [False, False, False, True, False]
    assert (closed, registry.find("s")) == (["made for 1"], None)


@pytest.mark.usefixtures("hub")
def test_anonymous_viewing_is_not_offered() -> None:
    """Its error is there to be named in an `except`, under both names; asking for it is refused before any use."""
    assert AnonTaskAccessDenied is AnonTaskAccessDeniedError
    assert issubclass(AnonTaskAccessDenied, BlocksError)
    with pytest.raises(ConfigurationError, match="not offered"):
        TaskClient.create("free", anon_fingerprint="me")
