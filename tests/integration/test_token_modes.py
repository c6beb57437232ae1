"""The three ways in for a consumer, against a real hub; an endpoint of the user's is a small server of the test."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import Caller, running_hub
from support_tokens import TokenEndpoint, token_endpoint

import blocks_worker
from blocks_worker import ConsumerAuth, TaskClient, TokenResult, create_task_client
from blocks_worker.auth_provider import StaticAuthProvider
from blocks_worker.config import state_dir
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = {"type": "progress", "progress": 0, "state": "running"}


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def endpoint(hub: Caller) -> Iterator[TokenEndpoint]:
    """Run an endpoint that trades a key for tokens, as a user's back end does."""
    with token_endpoint(lambda: given(hub)) as made:
        yield made


def given(hub: Caller, key: str | None = None, **changed: Any) -> dict[str, Any]:
    """Return what a back end gives away."""
    answer = hub.consumer(key)
    return {"token": answer["token"], "expiresIn": answer["expiresIn"], "userId": answer["userId"], **changed}


def serve(hub: Caller) -> str:
    """Connect an instance of echo that takes offers, and return its token."""
    token = str(hub.connect(concurrency=8, billingMode="free", listing="public")["accessToken"])
    nonce = hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=token).json["nonce"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 8, "nonce": nonce}, bearer=token)
    return token


def echo(hub: Caller, instance: str, client: TaskClient) -> str:
    """Send a task, complete it, and return the state that the session heard by the network."""
    session = client.send_message("echo", "hi")
    hub.run(instance, session.task_id, RUNNING)
    return str(session.wait_for_terminal(30).state)


def test_all_modes_work(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[A-8] Key, endpoint as text and as dict, function with either result: each sends a task and hears its end."""
    instance = serve(hub)
    modes: list[dict[str, Any]] = [
        {"api_key": hub.key},
        {"token_endpoint": endpoint.url},
        {"token_endpoint": {"url": endpoint.url}},
        {"token_provider": lambda: given(hub)},
        {"token_provider": lambda: TokenResult(given(hub)["token"], 600)},
    ]
    for mode in modes:
        with TaskClient.create("free", **mode) as client:
            assert client.get_user_id() == "local"
            assert echo(hub, instance, client) == "completed", mode


def test_the_endpoint_gets_what_the_user_says(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[A-8] POST, JSON and an empty object unless said otherwise; cookies by headers; nothing of ours goes along."""
    config = {"url": endpoint.url, "headers": {"Cookie": "s=1", "content-type": "text/x"}, "body": {"a": [1]}}
    for said in (endpoint.url, config):
        TaskClient.create("free", token_endpoint=said, rpc_headers={"X-Mine": "1"}).destroy()
    (path, plain, nothing), (_, custom, body) = endpoint.asked

    assert (path, plain["content-type"], nothing) == ("/token?for=me", "application/json", b"{}")
    assert (custom["cookie"], custom["content-type"], json.loads(body)) == ("s=1", "text/x", {"a": [1]})
    assert not {"authorization", "x-mine", "blocks-protocol-version"} & {*plain, *custom}


def test_the_simple_way_in(hub: Caller, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """[A-8] [R-2] `create_task_client` by env, by billing mode, by a dict, and with the key of the environment."""
    far = "https://hub.invalid/api/v1/cdm"
    create_task_client(env="playground", token_endpoint={"url": endpoint.url}).destroy()
    create_task_client("free", token_provider=lambda: given(hub)).destroy()
    create_task_client({"env": "playground", "token_endpoint": {"url": endpoint.url}}).destroy()
    with pytest.raises(KeyError, match="BLOCKS_API_KEY"):
        create_task_client({"cdm_url": far})
    with pytest.raises(KeyError, match="BLOCKS_API_KEY"):
        create_task_client(base_url="https://hub.invalid")
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    create_task_client().destroy()

    assert len(endpoint.asked) == 2


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"api_key": "bk_1", "token_endpoint": "http://127.0.0.1:1/t"}, "choose one"),
        ({"token_provider": dict, "token_endpoint": {"url": "http://127.0.0.1:1/t"}}, "choose one"),
        ({"token_endpoint": ""}, "empty"),
        ({"token_endpoint": {"url": ""}}, "url"),
        ({"token_endpoint": {}}, "url"),
        ({"token_endpoint": {"url": "ftp://x"}}, "address"),
        ({"token_endpoint": {"url": "http://a:b@x/"}}, "address"),
        ({"token_endpoint": {"url": "http://x/", "credentials": "include"}}, "credentials"),
        ({"token_endpoint": {"url": "http://x/", "headers": ["a"]}}, "headers"),
        ({"token_endpoint": {"url": "http://x/", "body": object()}}, "JSON"),
        ({"token_provider": 5}, "called"),
        ({"anon_fingerprint": "f"}, "anonymous"),
        ({"transport": "pigeon"}, "pigeon"),
        ({"timeout": 0}, "timeout"),
        ({"rpc_headers": {"authorization": "x"}}, "authorization"),
        ({"rpc_headers": {"X-WRITE-affinity": "x"}}, "X-WRITE-affinity"),
    ],
)
def test_wrong_settings_are_named(keywords: dict[str, Any], said: str) -> None:
    """[3.1] A wrong or contradicting setting is a ValueError that names it, before any network use."""
    with pytest.raises(ValueError, match=said):
        TaskClient.create("free", **keywords)


def test_the_first_token_is_got_inside_create(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[3.1] What goes wrong with it comes from there: what the endpoint, the function and the hub say."""
    endpoint.status = 500
    with pytest.raises(AuthRefreshFailedError, match="status 500"):
        TaskClient.create("free", token_endpoint=endpoint.url)
    endpoint.status = 200
    endpoint.give = lambda: {"token": ""}
    with pytest.raises(AuthRefreshFailedError, match="no token"):
        TaskClient.create("free", token_endpoint=endpoint.url)
    with pytest.raises(AuthRefreshFailedError, match="does not answer"):
        TaskClient.create("free", token_endpoint="http://127.0.0.1:9/t")
    with pytest.raises(ZeroDivisionError):
        TaskClient.create("free", token_provider=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="TokenResult"):
        TaskClient.create("free", token_provider=lambda: "text")  # type: ignore[arg-type, return-value]
    with pytest.raises(RpcError):
        TaskClient.create("free", token_provider=lambda: TokenResult("no-token"))
    with pytest.raises(AgentAuthFatalError, match="another api_key"):
        TaskClient.create("free", api_key="bk_" + "x" * 43)


def test_renewed_at_four_fifths(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[A-8, R-25] With nobody asking a new token comes before the old one ends; the channel stays."""
    instance = serve(hub)
    endpoint.give = lambda: given(hub, expiresIn=2)
    with TaskClient.create("free", token_endpoint=endpoint.url) as client:
        session = client.send_message("echo", "hi")
        channel = client._core.login.session_channel
        wait_until(lambda: len(endpoint.asked) >= 3, what="two renewals")
        hub.run(instance, session.task_id, RUNNING)

        assert session.wait_for_terminal(30).state == "completed"
        assert client._core.login.session_channel == channel
    wait_until(lambda: "token-refresh" not in {thread.name for thread in threading.enumerate()}, what="no timer")
    asked = len(endpoint.asked)
    assert client.get_user_id() == "local"
    assert len(endpoint.asked) == asked


def test_a_refused_token_is_replaced_once_for_all(hub: Caller) -> None:
    """[A-8] Ten callers whose key was revoked cause one new token, of another key, and all their calls succeed."""
    keys = [hub.ask("POST", "/api/v1/auth/keys", {"name": "n"}, bearer=hub.key).json for _ in range(2)]
    fetched: list[str] = []

    def provide() -> TokenResult:
        fetched.append(keys[min(len(fetched), 1)]["key"])
        return TokenResult(given(hub, fetched[-1])["token"], 3600)

    with TaskClient.create("free", token_provider=provide) as client:
        hub.ask("DELETE", f"/api/v1/auth/keys/{keys[0]['id']}", bearer=hub.key)
        with ThreadPoolExecutor(10) as pool:
            pages = [future.result(20) for future in [pool.submit(client.list_tasks) for _ in range(10)]]

        assert ([page.tasks for page in pages], len(fetched)) == ([[]] * 10, 2)
        assert client.list_tasks().tasks == []


def test_three_failures_are_told_once_and_mended(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[A-8, R-25] The first error comes through; after three the next call raises the record; success clears it."""
    told: list[Exception] = []
    key = hub.ask("POST", "/api/v1/auth/keys", {"name": "n"}, bearer=hub.key).json
    endpoint.give = lambda: given(hub, key["key"])
    with TaskClient.create("free", token_endpoint=endpoint.url, on_auth_error=told.append) as client:
        hub.ask("DELETE", f"/api/v1/auth/keys/{key['id']}", bearer=hub.key)
        endpoint.status = 503
        for _ in range(3):
            with pytest.raises(RpcError) as first:
                client.list_tasks()
            assert first.value.code == "TokenRevoked"
        with pytest.raises(AuthRefreshFailedError) as recorded:
            client.list_tasks()
        with pytest.raises(AuthRefreshFailedError):
            client.get_agent_card("echo")

        assert told == [recorded.value.__cause__]
        assert "503" in str(told[0])
        endpoint.status, endpoint.give = 200, lambda: given(hub)
        assert client.list_tasks().tasks == []
        assert len(told) == 1


def test_a_callback_may_use_the_client(hub: Caller) -> None:
    """[3.3] `on_auth_error` and the function run free of locks: both may call the client that they belong to."""
    answers: list[Any] = []
    clients: list[TaskClient] = []
    works = threading.Event()
    works.set()

    def provide() -> TokenResult:
        if clients:
            answers.append(clients[0]._core.login.refresh(None))
        if not works.is_set():
            raise OSError("away")
        return TokenResult(given(hub)["token"], 3600, "ann")

    def failed(_error: Exception) -> None:
        answers.append(clients[0].get_user_id())

    with TaskClient.create("free", token_provider=provide, on_auth_error=failed) as client:
        clients.append(client)
        works.clear()
        tried = [client._core.login.refresh(None) for _ in range(3)]

        assert (tried, answers) == ([False] * 3, [*[False] * 3, "ann"])


def test_a_function_that_does_not_return(hub: Caller) -> None:
    """[A-8, R-25] Neither the start nor a send waits for it longer than `timeout`: the error says who is late."""
    serve(hub)
    key = hub.ask("POST", "/api/v1/auth/keys", {"name": "n"}, bearer=hub.key).json
    go, works = threading.Event(), threading.Event()
    go.set()

    def provide() -> TokenResult:
        go.wait(20)
        return TokenResult(given(hub, hub.key if works.is_set() else key["key"])["token"], 3600)

    with TaskClient.create("free", token_provider=provide, timeout=3) as client:
        go.clear()
        with pytest.raises(AuthRefreshFailedError, match="token_provider has not returned within 3 s"):
            TaskClient.create("free", token_provider=lambda: go.wait(20), timeout=3)  # type: ignore[arg-type, return-value]
        hub.ask("DELETE", f"/api/v1/auth/keys/{key['id']}", bearer=hub.key)
        with pytest.raises(AuthRefreshFailedError, match="token_provider has not returned within 3 s") as caught:
            client.send_message("echo", "x")
        works.set()
        go.set()

        assert caught.value.timed_out
        assert client.send_message("echo", "x").cancel()


def test_without_credentials_only_what_is_public(hub: Caller, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """[3.1] A hub elsewhere may be read without a key; whatever needs one says which are offered."""
    serve(hub)
    client = TaskClient(base_url=hub.address.url, subscribe_key="s", billing_mode="free", auth_provider=None)
    client.destroy()
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path))
    with TaskClient(base_url=hub.address.url, subscribe_key="s", billing_mode="free", pubnub=Sdk(hub)) as public:
        assert public.get_agent_card("nobody") is None
        with pytest.raises(RuntimeError, match="token_provider"):
            public.connect("t")


def test_a_client_without_credentials_asks_nobody() -> None:
    """[3.1] Where all is told and no key is there, nothing is sent before a call needs it."""
    with TaskClient.create("free", base_url="https://hub.invalid", subscribe_key="s", publish_key="p") as client:
        for call in (client.list_tasks, client.get_user_id):
            with pytest.raises(RuntimeError, match="no credentials"):
                call()


class Config:
    """What of the SDK's configuration a client takes."""

    def __init__(self, hub: Caller) -> None:
        cdm = hub.ask("GET", "/api/v1/cdm").json
        self.subscribe_key = cdm["playground"]["subscribeKey"]
        self.publish_key = cdm["playground"]["publishKey"]
        self.origin = hub.address.origin.partition("://")[2]
        self.ssl = False
        self.user_id = "me"


class Sdk:
    """Hold a configuration where the SDK's client holds it."""

    def __init__(self, hub: Caller) -> None:
        self.config = Config(hub)


def test_the_constructor_takes_parts(hub: Caller) -> None:
    """[3.1] A network client or its maker gives keys, address and user id, a provider the token; all at first use."""
    instance = serve(hub)
    provider = StaticAuthProvider(given(hub)["token"])
    ways: list[dict[str, Any]] = [
        {"pubnub": Sdk(hub), "auth_provider": provider},
        {"create_pubnub": lambda: Sdk(hub), "agent_auth": provider},
        {"create_session_pubnub": lambda: Sdk(hub)},
        {"subscribe_key": Sdk(hub).config.subscribe_key, "auth_provider": provider},
    ]
    for way in ways:
        with TaskClient(base_url=hub.address.url, billing_mode="free", default_owner_id="you", **way) as client:
            assert client._core.login._keeper.is_empty()
            assert client.get_user_id() == "you"
            assert echo(hub, instance, client) == "completed", way
    with TaskClient(base_url=hub.address.url, billing_mode="free", pubnub=Sdk(hub), auth_provider=provider) as client:
        assert client.get_user_id() == "me"
    for wrong in (
        {"subscribe_key": "s"},
        {"base_url": hub.address.url},
        {"agent_auth": provider, "auth_provider": provider},
    ):
        with pytest.raises(ValueError, match=r"give|choose"):
            TaskClient(billing_mode="free", **wrong)  # type: ignore[arg-type]


def test_other_keys_of_the_network(hub: Caller) -> None:
    """[3.6] After `update_keys` the client listens with these; what came with others the hub is asked for."""
    instance = serve(hub)
    keys = hub.ask("GET", "/api/v1/cdm").json
    with TaskClient.create("free") as client:
        assert echo(hub, instance, client) == "completed"
        client.update_keys(keys["network"]["subscribeKey"], keys["network"]["publishKey"])
        transport = client._core._subscriptions._transport
        assert transport._aim.subscribe_key == keys["network"]["subscribeKey"]  # type: ignore[union-attr]
        client.update_keys(keys["playground"]["subscribeKey"])

        assert echo(hub, instance, client) == "completed"
        with pytest.raises(ValueError, match="empty"):
            client.update_keys("")


def test_a_consumers_token_by_itself(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[3.3] `ConsumerAuth` gets in by one of three ways and gives a header, which stays readable."""
    ways: list[dict[str, Any]] = [
        {"api_key": hub.key, "base_url": hub.address.url},
        {"token_endpoint": endpoint.url},
        {"token_provider": lambda: given(hub)},
    ]
    for way in ways:
        auth = ConsumerAuth(**way)
        assert (auth.get_auth_header(), auth.get_user_id()) == (None, None)
        auth.init()
        first = auth.get_auth_header()
        assert auth.on_auth_failure()
        second = auth.get_auth_header()
        auth.ensure_ready()
        auth.destroy()

        assert str(first).startswith("Bearer ")
        assert first != second
        assert (auth.get_auth_header(), auth.get_user_id(), auth.get_last_auth_error()) == (second, "local", None)
        assert hub.ask("GET", "/api/v1/tasks", headers={"Authorization": str(second)}).status == 200
    for wrong in ({}, {"api_key": "bk_"}, {"api_key": "bk_", "token_endpoint": "http://x/"}):
        with pytest.raises(ValueError, match=r"give|choose"):
            ConsumerAuth(**wrong)


def test_a_provider_of_the_users(hub: Caller) -> None:
    """[3.3] A client takes a `ConsumerAuth` as its provider, and tells it when its token was refused."""
    instance = serve(hub)
    auth = ConsumerAuth(token_provider=lambda: given(hub))
    with TaskClient(base_url=hub.address.url, billing_mode="free", pubnub=Sdk(hub), auth_provider=auth) as client:
        assert echo(hub, instance, client) == "completed"
        assert client._core.login.refresh(None)
    auth.destroy()


def test_a_token_of_nobody_is_renewed_by_its_provider(hub: Caller) -> None:
    """[A-8] A header that the hub refuses at the first call is replaced once, and the call goes through."""

    class Second:
        header = "Bearer no-token"

        def get_auth_header(self) -> str | None:
            return self.header

        def on_auth_failure(self) -> bool:
            self.header = f"Bearer {given(hub)['token']}"
            return True

    with TaskClient(base_url=hub.address.url, billing_mode="free", pubnub=Sdk(hub), auth_provider=Second()) as client:
        assert client.list_tasks().tasks == []


def test_a_forgotten_client_keeps_no_process_alive(hub: Caller, endpoint: TokenEndpoint) -> None:
    """[R-33] Whoever drops a client, its timer running, can end; a client that nobody holds stops its timer."""
    script = (
        "import sys; from blocks_worker import TaskClient, ConsumerAuth\n"
        f"kept = TaskClient.create('free', token_endpoint={endpoint.url!r})\n"
        f"other = ConsumerAuth(token_endpoint={endpoint.url!r}); other.init()\n"
        "print(kept.get_user_id())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (0, "local\n")

    client = TaskClient.create("free", token_endpoint=endpoint.url)
    assert "token-refresh" in {thread.name for thread in threading.enumerate()}
    del client
    gc.collect()
    wait_until(lambda: "token-refresh" not in {thread.name for thread in threading.enumerate()}, what="no timer")


def test_the_names_of_auth_are_there() -> None:
    """[A-1] From the package and from the modules that users know."""
    from blocks_worker import auth_provider, consumer_auth

    assert {"AgentAuth", "AuthProvider", "ConsumerAuth", "TokenEndpointConfig", "TokenResult"} <= set(
        blocks_worker.__all__
    )
    assert consumer_auth.AuthRefreshFailedError is AuthRefreshFailedError
    assert consumer_auth.TokenEndpointConfig is blocks_worker.TokenEndpointConfig
    assert auth_provider.AuthProvider is blocks_worker.AuthProvider
