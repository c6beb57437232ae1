"""The registry's functions over a real hub: look agents up, page, connect by hand, take out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support_hub import let_in, running_hub

from blocks_worker.agent_registry import (
    AgentConnection,
    AgentEntry,
    AgentScaling,
    ConnectAgentOptions,
    connect_agent,
    fetch_agent_registry,
    fetch_agents_by_listing,
    fetch_agents_by_skill,
    fetch_agents_by_tag,
    get_agent,
    remove_agent,
)
from blocks_worker.config import state_dir
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, ConfigurationError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_hub import Caller


@pytest.fixture
def strangers_key() -> str:
    """Have a key of another owner than the folder's."""
    with running_hub(state_dir()):
        pass
    return let_in(state_dir(), "stranger")


@pytest.fixture
def hub(strangers_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Run a hub that the environment names, and its folder's key with it."""
    assert strangers_key
    with running_hub(state_dir()) as caller:
        monkeypatch.setenv("BLOCKS_CDM_URL", f"{caller.address.url}/api/v1/cdm")
        monkeypatch.setenv("BLOCKS_API_KEY", caller.key)
        yield caller


def connected(name: str, **more: Any) -> AgentConnection:
    """Connect an instance of an agent."""
    return connect_agent(ConnectAgentOptions(agent_name=name, instance_id=f"{name}-1", **more))


def card(name: str, *tags: str) -> dict[str, Any]:
    """Return a card with tags."""
    identity = {"agentName": name, "displayName": name.upper(), "description": f"the {name}", "version": "1"}
    return {"identity": identity, "tags": [{"id": tag, "name": tag.title()} for tag in tags]}


def names(found: list[AgentEntry]) -> list[str]:
    """Return what agents are called."""
    return [entry.agent_name for entry in found]


def test_one_call_registers_and_gives_what_an_instance_needs(hub: Caller) -> None:
    """The row is there with card and scaling, the tokens work at the instances' doors, and no secret is printed."""
    scaling = AgentScaling(expected_instances=3, concurrency=4, max_pending_backlog=5)
    made = connected("alone", scaling=scaling, card=card("alone", "demo"), listing="public", description="by hand")
    entry = get_agent("alone")

    assert isinstance(entry, AgentEntry)
    assert (entry.scaling, entry.listing, entry.billing_mode, entry.name) == (scaling, "public", "free", "ALONE")
    assert entry.card == card("alone", "demo")
    assert entry.created_at > 1_700_000_000_000
    beat = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=made.access_token)
    assert beat.status == 200
    assert made.control_channel == f"agent.{made.agent_id}.control"
    renewed = hub.ask("POST", "/api/v1/auth/agent/refresh", {"refreshToken": made.refresh_token}, bearer=hub.key)
    assert renewed.status == 200
    assert made.expires_in > 60
    assert made.access_token not in repr(made)
    assert made.pam_token not in repr(made)


def test_the_same_name_and_id_again_supersedes(hub: Caller) -> None:
    """Each call is a process life of its own: the one before is told that it is over."""
    first, second = connected("twice"), connected("twice")

    assert hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=first.access_token).status == 410
    assert hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=second.access_token).status == 200


@pytest.mark.usefixtures("hub")
def test_agents_are_found_by_what_they_are() -> None:
    """By tag, which is a skill too, by listing, by pages of any size, all in the order of their names."""
    for name in ("ant", "bee", "cat", "dog"):
        connected(name, card=card(name, "all", name), listing="public" if name < "c" else "private")

    assert names(fetch_agents_by_tag("all")) == ["ant", "bee", "cat", "dog"]
    assert names(fetch_agents_by_skill("Bee")) == ["bee"]
    assert fetch_agents_by_tag("none") == []
    assert names(fetch_agents_by_listing("public")) == ["ant", "bee"]
    assert names(fetch_agents_by_listing("private")) == ["cat", "dog"]
    assert names(fetch_agent_registry()) == names(fetch_agent_registry(limit=1)) == ["ant", "bee", "cat", "dog"]
    assert names(fetch_agent_registry(limit=2, cursor="ant")) == ["bee", "cat"]
    for wrong in (0, -1, True):
        with pytest.raises(ConfigurationError, match="whole number"):
            fetch_agent_registry(limit=wrong)
    with pytest.raises(ConfigurationError, match="neither"):
        fetch_agents_by_listing("secret")


def test_what_is_somebody_elses(hub: Caller, strangers_key: str) -> None:
    """A private agent is not there for others, and nobody else connects or takes out what is not his."""
    connected("mine", listing="private")
    address = {"base_url": hub.address.url, "api_key": strangers_key}

    assert get_agent("mine", **address) is None
    assert names(fetch_agent_registry(**address)) == []
    assert remove_agent("mine", **address) is False
    with pytest.raises(RpcError) as caught:
        connect_agent(ConnectAgentOptions(agent_name="mine", instance_id="x"), **address)
    assert caught.value.code == "AgentNameReserved"
    assert get_agent("mine") is not None


def test_taken_out(hub: Caller) -> None:
    """An agent goes when its owner says so, unless tasks wait for it; the second time it was not there."""
    connected("gone", listing="public")
    task = hub.submit(hub.consumer()["accessToken"], "gone")
    with pytest.raises(RpcError) as caught:
        remove_agent("gone")
    hub.ask("POST", f"/api/v1/tasks/{task}/cancel", {}, bearer=hub.consumer()["accessToken"])

    assert caught.value.code == "AgentHasTasks"
    assert remove_agent("gone") is True
    assert get_agent("gone") is None
    assert remove_agent("gone") is False


def test_a_credential_that_is_not_taken_raises(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key is told whatever is asked; without any, what is public may be read and nothing else done."""
    connected("open", listing="public")
    wrong: dict[str, Any] = {"base_url": hub.address.url, "api_key": "bk_nobody"}
    for act in (
        lambda: get_agent("open", **wrong),
        lambda: fetch_agent_registry(**wrong),
        lambda: remove_agent("open", **wrong),
        lambda: connect_agent(ConnectAgentOptions(agent_name="open", instance_id="x"), **wrong),
    ):
        with pytest.raises((AgentAuthFatalError, AuthRefreshFailedError)):
            act()
    monkeypatch.delenv("BLOCKS_API_KEY")
    monkeypatch.setenv("BLOCKS_STATE_DIR", f"{state_dir()}-of-somebody-else")
    bare: dict[str, Any] = {"base_url": hub.address.url}

    assert names(fetch_agent_registry(**bare)) == ["open"]
    with pytest.raises(AuthRefreshFailedError, match="BLOCKS_API_KEY"):
        connect_agent(ConnectAgentOptions(agent_name="open", instance_id="x"), **bare)
    with pytest.raises(AuthRefreshFailedError):
        remove_agent("open", **bare)
