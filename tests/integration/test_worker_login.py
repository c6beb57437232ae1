"""A worker's login at a real hub: grants that end, keys that are taken back, and its token in other hands."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import Caller, running_hub

from blocks_worker import AgentAuthFatalError, AuthRefreshFailedError, TaskClient, start_agent_instance
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import state_dir
from blocks_worker.controlplane.agent_auth import AgentAuth
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import InstanceLogin
from blocks_worker.protocol.leases import ConnectRequest, Heartbeat
from blocks_worker.transports.base import Gap, Message
from blocks_worker.transports.pubnub.transport import PubNubSettings, PubNubTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.runtime.instance import AgentInstance


#: Seconds of a life whose last fifth is longer than a machine stands still.
PATIENT = pytest.mark.parametrize("hub", [11], indirect=True, ids=["eleven seconds"])


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Run a hub whose grants and tokens live 3 seconds, or as many as are asked for."""
    life = getattr(request, "param", 3)
    with running_hub(state_dir(), access_life=life, grant_life=life, hold=1.0) as caller:
        yield caller


@contextmanager
def logged_in(hub: Caller) -> Iterator[InstanceLogin]:
    """Connect an instance whose timer does not run."""
    http = Http(hub.address.url, timeout=5.0)
    request = ConnectRequest(agent_name="echo", instance_id="one", incarnation=Entropy().name(8))
    try:
        yield InstanceLogin(http=http, api_key=hub.key, request=request, clock=Clock(), entropy=Entropy())
    finally:
        http.close()


def new_key(hub: Caller, owner: str = "local") -> dict[str, Any]:
    """Make a key."""
    return dict(hub.ask("POST", "/api/v1/auth/keys", {"name": "n", "owner": owner}, bearer=hub.key).json)


def renewed(instance: AgentInstance, times: int) -> None:
    """Wait until the token of the instance was replaced so often."""
    for _ in range(times):
        before = instance.auth.get()
        wait_until(lambda before=before: instance.auth.get() != before, what="a new token")  # type: ignore[misc]


@PATIENT
def test_the_grant_is_renewed_idle_and_busy(hub: Caller) -> None:
    """[R-24] Over several lives of the grant nothing is refused, with a task running and without. [G1]"""
    gate = threading.Event()
    options = {"agent_name": "echo", "handler": lambda _task: str(gate.wait(30)), "heartbeat_ms": 60_000}
    with start_agent_instance(options) as instance, TaskClient.create("free") as client:
        instance.wait_ready(20)
        renewed(instance, 1)
        session = client.send_message("echo", "x")
        wait_until(lambda: instance.active_tasks, 20, "the task came by the network")
        renewed(instance, 1)
        gate.set()

        assert session.result(20).text == "True"
        assert not {"transport_unauthorized", "transport_retrying"} & set(instance.counters)


def test_a_refused_subscription_goes_on_from_its_cursor(hub: Caller) -> None:
    """[R-24] [A13] With no timer the refused poll gets a new grant, and every message comes, once and in order."""
    with logged_in(hub) as login:
        answer = login.connect()
        first = login.token()
        cdm = hub.ask("GET", "/api/v1/cdm").json
        settings = PubNubSettings(
            origin=cdm["origin"],
            publish_key=cdm["playground"]["publishKey"],
            subscribe_key=cdm["playground"]["subscribeKey"],
            user_id="one",
            hold=1.0,
        )
        transport = PubNubTransport(settings, grants=login, producer="p", clock=Clock(), entropy=Entropy())
        subscription = transport.subscribe([answer.control_channel])
        heard: list[int] = []
        sent = 0
        pause = threading.Event()
        while transport.counters.get("failed.denied", 0) < 2 and sent < 100:
            login.api.heartbeat(Heartbeat(), timeout=5)  # each is answered by a message on the channel
            sent += 1
            pause.wait(0.2)
            heard += [item.body["sequence"] for item in subscription.receive(0) if isinstance(item, Message)]
        while len(heard) < sent:
            received = subscription.receive(20)
            assert received
            assert not any(isinstance(item, Gap) and not item.filled for item in received)
            heard += [item.body["sequence"] for item in received if isinstance(item, Message)]
        transport.close(Deadline(5))

    assert login.token() != first
    assert heard == sorted(set(heard))
    assert len(heard) == sent


def test_a_used_up_refresh_token_leads_to_a_new_connect(hub: Caller) -> None:
    """[2.4] The same incarnation registers again and goes on."""
    with logged_in(hub) as login:
        before = login.connect()
        used = {"refreshToken": login._keeper.pair().refresh}
        assert hub.ask("POST", "/api/v1/auth/agent/refresh", used, bearer=hub.key).status == 200

        assert login.refresh(None)
        assert login.access_token() != before.access_token
        login.api.heartbeat(Heartbeat(), timeout=5)


@pytest.mark.parametrize("how", ["revoked", "offline"])
def test_a_worker_that_is_turned_out_stops_by_itself(hub: Caller, how: str) -> None:
    """[2.4, R-32] State failed, `on_fatal` told, waits raise, no thread left: the process goes on."""
    key, fatal = new_key(hub), list[BaseException]()
    options = {"agent_name": "echo", "handler": lambda _task: "x", "heartbeat_ms": 1000, "on_fatal": fatal.append}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKS_API_KEY", key["key"])
        instance = start_agent_instance(options)
    instance.wait_ready(20)
    if how == "revoked":
        hub.ask("DELETE", f"/api/v1/auth/keys/{key['id']}", bearer=hub.key)
    else:
        hub.ask("POST", "/api/v1/registry/agents/echo/offline", {}, bearer=hub.consumer()["accessToken"])

    with pytest.raises(AgentAuthFatalError) as caught:
        instance.wait(20)
    assert caught.value.code == {"revoked": "API_KEY_INVALID", "offline": "AGENT_FORCED_OFFLINE"}[how]
    wait_until(lambda: fatal, what="the word of it")
    assert (instance.state, instance.error, fatal) == ("failed", caught.value, [caught.value])
    with pytest.raises(AgentAuthFatalError):
        instance.wait_ready(0)
    instance.stop()
    ours = {"heartbeat", "token-refresh", "listener"}
    wait_until(lambda: not ours & {thread.name for thread in threading.enumerate()}, what="no thread left")


@PATIENT
def test_the_token_in_other_hands(hub: Caller) -> None:
    """[1.1] `AgentAuth` gives the token, renews it once for all who ask, and lets a client in."""
    with logged_in(hub) as login:
        auth = AgentAuth(login)
        assert (auth.get_auth_header(), auth.on_auth_failure()) == (None, False)
        with pytest.raises(AuthRefreshFailedError):
            auth.get()
        login.connect()
        first = auth.get()
        assert auth.refresh() == auth.get() != first
        assert auth.on_auth_failure()

    options = {"agent_name": "echo", "handler": lambda _task: "x"}
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]
    with start_agent_instance(options) as instance:
        instance.wait_ready(20)
        with ThreadPoolExecutor(5) as pool:
            tokens = [future.result(10) for future in [pool.submit(instance.auth.refresh) for _ in range(5)]]
        with TaskClient(
            base_url=hub.address.url,
            subscribe_key=keys["subscribeKey"],
            billing_mode="free",
            agent_auth=instance.auth,
        ) as client:
            assert client.run("echo", "hi", timeout=20).text == "x"

        assert instance.auth.get() in tokens


def test_a_revoked_key_ends_refresh_by_name(hub: Caller) -> None:
    """`AgentAuth.refresh` tells that there is no other token for good."""
    key = new_key(hub)
    http = Http(hub.address.url, timeout=5.0)
    request = ConnectRequest(agent_name="echo", instance_id="one", incarnation="life")
    login = InstanceLogin(
        http=http, api_key=key["key"], request=request, clock=Clock(), entropy=Entropy(), cure="do this"
    )
    login.connect()
    hub.ask("DELETE", f"/api/v1/auth/keys/{key['id']}", bearer=hub.key)

    with pytest.raises(AgentAuthFatalError, match="; do this"):
        AgentAuth(login).refresh()
    http.close()
