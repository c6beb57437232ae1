"""The doors of API keys: made, listed without secrets, taken back with all that hangs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support_hub import Answered, Caller

KEYS = "/api/v1/auth/keys"
SESSION = "/api/v1/auth/session"


def made(hub: Caller, name: str = "ci", **fields: Any) -> dict[str, Any]:
    """Make a key with the hub's own one."""
    answered = hub.ask("POST", KEYS, {"name": name, **fields}, bearer=hub.key)
    assert answered.status == 201, answered
    return dict(answered.json)


def revoke(hub: Caller, key_id: str, bearer: str | None = None) -> Answered:
    """Take a key back."""
    return hub.ask("DELETE", f"{KEYS}/{key_id}", bearer=bearer or hub.key)


def row(hub: Caller, key_id: str, bearer: str | None = None) -> dict[str, Any]:
    """Return the row of a key."""
    rows = hub.ask("GET", KEYS, bearer=bearer or hub.key).json["keys"]
    return next(dict(each) for each in rows if each["id"] == key_id)


def test_a_key_that_was_made_opens_the_hub(hub: Caller) -> None:
    """A new key is its owner's, and its first use is noted."""
    key = made(hub, owner="carol")
    assert row(hub, key["id"])["lastUsed"] is None

    assert hub.consumer(key["key"])["userId"] == "carol"
    assert row(hub, key["id"])["lastUsed"] >= key["created"]


def test_the_secret_is_told_once(hub: Caller) -> None:
    """No list holds a key, or its hash."""
    key = made(hub)

    listed = hub.ask("GET", KEYS, bearer=hub.key)

    assert key["key"].startswith("bk_")
    assert key["key"].encode() not in listed.body
    assert set(row(hub, key["id"])) == {"id", "name", "owner", "created", "lastUsed", "revoked"}


def test_owners_see_and_make_their_own_keys_only(hub: Caller) -> None:
    """[G7] Another owner's key is not shown, not made and not taken back."""
    mine, theirs = made(hub, owner="dave"), made(hub, owner="erin")

    seen = hub.ask("GET", KEYS, bearer=mine["key"]).json["keys"]
    for_other = hub.ask("POST", KEYS, {"name": "x", "owner": "erin"}, bearer=mine["key"])
    for_self = hub.ask("POST", KEYS, {"name": "x"}, bearer=mine["key"])

    assert {each["owner"] for each in seen} == {"dave"}
    assert (for_other.status, for_self.status, for_self.json["owner"]) == (403, 201, "dave")
    assert revoke(hub, theirs["id"], mine["key"]).status == 404
    assert revoke(hub, mine["id"], mine["key"]).status == 204


@pytest.mark.parametrize(
    "fields", [{"name": ""}, {"name": "x" * 65}, {"owner": "a.b"}, {"owner": "sys"}, {"owner": ""}]
)
def test_names_that_cannot_be_are_refused(hub: Caller, fields: dict[str, Any]) -> None:
    """An owner stands in channels; a name is short."""
    assert hub.ask("POST", KEYS, {"name": "ci", **fields}, bearer=hub.key).status == 400


def test_no_token_opens_these_doors(hub: Caller, token: str) -> None:
    """What lives an hour makes nothing that lives for good."""
    answers = [
        hub.ask("POST", KEYS, {"name": "x"}, bearer=token),
        hub.ask("GET", KEYS, bearer=token),
        revoke(hub, "key_0", token),
        hub.ask("GET", KEYS),
    ]

    assert {(answer.status, answer.code) for answer in answers} == {(401, "API_KEY_INVALID")}


def test_a_revoked_key_ends_all_that_it_opened(hub: Caller) -> None:
    """[A-8] Access tokens of both kinds, refresh tokens and the key itself are refused from the next call on."""
    key = made(hub, owner="frank")
    consumer, instance = hub.consumer(key["key"]), hub.connect("franks", key=key["key"])
    assert hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance["accessToken"]).status == 200

    assert revoke(hub, key["id"]).status == 204
    answers = [
        hub.ask("GET", "/api/v1/tasks", bearer=consumer["accessToken"]),
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance["accessToken"]),
        hub.ask("POST", SESSION, {}, bearer=consumer["accessToken"]),
        hub.ask("POST", SESSION, {}, bearer=instance["accessToken"]),
    ]
    renewed = hub.ask(
        "POST", "/api/v1/auth/agent/refresh", {"refreshToken": consumer["refreshToken"]}, bearer=key["key"]
    )

    assert {(answer.status, answer.code) for answer in answers} == {(401, "TokenRevoked")}
    assert (renewed.status, renewed.code) == (401, "API_KEY_INVALID")
    assert row(hub, key["id"])["revoked"]
    assert revoke(hub, key["id"]).status == 204
    shown = hub.ask(
        "GET",
        "/api/v1/registry/agents?agentName=franks",
        bearer=hub.consumer(made(hub, owner="frank")["key"])["accessToken"],
    )
    assert shown.json["agent"]["instances"] == []


def test_another_key_of_the_owner_goes_on(hub: Caller) -> None:
    """A key is taken back by itself."""
    first, second = made(hub, owner="grace"), made(hub, owner="grace")
    consumer = hub.consumer(second["key"])

    revoke(hub, first["id"])

    assert hub.ask("GET", "/api/v1/tasks", bearer=consumer["accessToken"]).status == 200


def test_the_key_of_the_state_folder_stays(hub: Caller) -> None:
    """The local key cannot be revoked: without it nobody could make another."""
    rows = hub.ask("GET", KEYS, bearer=hub.key).json["keys"]
    local = next(each for each in rows if (each["owner"], each["name"]) == ("local", "local"))

    answered = revoke(hub, local["id"])

    assert (answered.status, answered.code) == (409, "LocalKey")
    assert revoke(hub, "key_nobody").status == 404


def test_an_access_token_is_traded_for_a_session(hub: Caller, token: str) -> None:
    """The session has a channel of its own, which the next one keeps, and lives no longer than the token."""
    first = hub.ask("POST", SESSION, {}, bearer=token).json
    again = hub.ask("POST", SESSION, {"accessToken": first["accessToken"]}, bearer=token).json
    other = hub.ask("POST", SESSION, bearer=token).json

    assert first["userId"] == "local"
    assert first["sessionChannel"] == again["sessionChannel"] != other["sessionChannel"]
    assert first["expiresIn"] <= 3600
    assert hub.ask("GET", "/api/v1/tasks", bearer=again["accessToken"]).status == 200


def test_a_session_is_not_taken_over(hub: Caller, token: str, bob: str) -> None:
    """[G7] The session of somebody else is not kept, and what is no token changes nothing."""
    mine = hub.ask("POST", SESSION, {}, bearer=token).json
    theirs = hub.ask("POST", SESSION, {"accessToken": mine["accessToken"]}, bearer=bob)
    nonsense = hub.ask("POST", SESSION, {"accessToken": "x"}, bearer=token)

    assert (theirs.status, theirs.json["userId"], nonsense.status) == (200, "bob", 200)
    assert mine["sessionChannel"] not in {theirs.json["sessionChannel"], nonsense.json["sessionChannel"]}


def test_an_instance_gets_a_consumers_session(hub: Caller) -> None:
    """An agent may send tasks as its owner."""
    instance = hub.connect("trader")

    session = hub.ask("POST", SESSION, {}, bearer=instance["accessToken"]).json

    assert session["userId"] == "local"
    assert hub.ask("GET", "/api/v1/tasks", bearer=session["accessToken"]).status == 200


def test_the_consumer_door_takes_the_key_as_bearer(hub: Caller) -> None:
    """A token endpoint may point here with nothing but a header."""
    answered = hub.ask("POST", "/api/v1/auth/agent/consumer-token", {}, bearer=hub.key)

    assert (answered.status, answered.json["token"]) == (200, answered.json["accessToken"])


def test_an_agent_that_is_offline_lets_nobody_in(hub: Caller, token: str, bob: str) -> None:
    """Its instances end, connects are refused by name, tasks wait; online again they are let in."""
    instance = hub.connect("parked", listing="public")
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance["accessToken"])
    address = "/api/v1/registry/agents/parked"

    assert hub.ask("POST", f"{address}/offline", {}, bearer=bob).status == 404
    turned = hub.ask("POST", f"{address}/offline", {}, bearer=token).json["agent"]
    beat = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance["accessToken"])
    request = {"agentName": "parked", "instanceId": "parked-2", "incarnation": "parked-life-2"}
    refused = hub.ask("POST", "/api/v1/auth/agent/connect", request, bearer=hub.key)
    hub.submit(token, "parked")

    assert (turned["offline"], turned["instances"]) == (True, [])
    assert (beat.status, refused.status, refused.code) == (410, 403, "AGENT_FORCED_OFFLINE")
    assert hub.ask("POST", f"{address}/online", {}, bearer=token).json["agent"]["offline"] is False
    assert hub.ask("POST", "/api/v1/auth/agent/connect", request, bearer=hub.key).status == 200
    assert hub.ask("POST", "/api/v1/registry/agents/nobody/online", {}, bearer=token).status == 404
