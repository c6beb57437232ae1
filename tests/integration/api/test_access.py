"""Who is let in where: every kind of credential at every door that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support_hub import Caller

CONSUMERS = [
    ("POST", "/api/v1/tasks"),
    ("GET", "/api/v1/tasks"),
    ("GET", "/api/v1/tasks/x"),
    ("GET", "/api/v1/tasks/x/events"),
    ("POST", "/api/v1/tasks/x/cancel"),
    ("POST", "/api/v1/events"),
    ("POST", "/api/v1/auth/task-read-token"),
    ("POST", "/api/v1/registry/agents"),
    ("DELETE", "/api/v1/registry/agents?agentName=x"),
]
INSTANCES = [("POST", "/api/v1/claims"), ("POST", "/api/v1/reports"), ("POST", "/api/v1/heartbeats")]


@pytest.mark.parametrize(("method", "path"), CONSUMERS)
@pytest.mark.parametrize("kind", ["accessToken", "refreshToken", "pamToken", "messageKey"])
def test_nothing_of_an_instance_opens_a_consumers_door(hub: Caller, method: str, path: str, kind: str) -> None:
    """[G6] Whatever a worker holds, it is no consumer."""
    held = hub.connect("kinds")[kind]

    assert hub.ask(method, path, b"{}", bearer=held).status == 401


@pytest.mark.parametrize(("method", "path"), INSTANCES)
@pytest.mark.parametrize("kind", ["accessToken", "refreshToken", "pamToken", "sessionChannel"])
def test_nothing_of_a_consumer_opens_a_workers_door(hub: Caller, method: str, path: str, kind: str) -> None:
    """[G6] Whatever a consumer holds, it is no instance."""
    held = hub.consumer()[kind]

    assert hub.ask(method, path, b"{}", bearer=held).status == 401


@pytest.mark.parametrize(("method", "path"), [*CONSUMERS, *INSTANCES])
@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", "Basic eDp4", "Bearer a.b.c", "Token x", "key"])
def test_no_door_opens_without_a_token(hub: Caller, method: str, path: str, sent: str) -> None:
    """A missing or malformed token is 401 at every door, before the body is looked at."""
    headers = {"Authorization": hub.key if sent == "key" else sent} if sent else {}

    answered = hub.ask(method, path, b"not json", headers=headers)

    assert (answered.status, answered.code[:5]) == (401, "Token")


@pytest.mark.parametrize(("method", "path"), [*CONSUMERS, *INSTANCES])
def test_an_api_key_is_only_exchanged(hub: Caller, method: str, path: str) -> None:
    """[G6] A key opens the doors of credentials and no other."""
    assert hub.ask(method, path, b"{}", bearer=hub.key).status == 401


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/api/v1/cdm", "/api/v1/registry/agents"])
def test_open_doors_ask_for_nothing(hub: Caller, path: str) -> None:
    """Health, the connection document and the public registry need no token."""
    assert hub.ask("GET", path).status == 200


def test_a_bad_token_is_refused_where_none_is_needed(hub: Caller) -> None:
    """Who sends a token to the registry is told when it is not good."""
    assert hub.ask("GET", "/api/v1/registry/agents", bearer="a.b.c").status == 401
