"""The doors of credentials: connect, refresh, consumer token, task read token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support_hub import Caller

CONNECT = "/api/v1/auth/agent/connect"
REFRESH = "/api/v1/auth/agent/refresh"
CONSUMER = "/api/v1/auth/agent/consumer-token"
READ = "/api/v1/auth/task-read-token"

#: A sound request of connect, whose fields the tests spoil one by one.
SOUND = {"agentName": "sound", "instanceId": "sound-1", "incarnation": "sound-life"}


def test_connect_gives_an_instance_all_it_needs(hub: Caller) -> None:
    """The answer holds tokens, the control channel, the key of signatures and the hub's numbers."""
    answer = hub.connect("needs")

    assert answer["controlChannel"] == f"agent.{answer['agentId']}.control"
    assert len(answer["messageKey"]) == 64
    assert answer["numbers"]["leaseTtl"] == 30.0
    assert (answer["expiresIn"], answer["pamExpiresIn"]) == (3600, 3600)


def test_connect_takes_the_key_from_either_header(hub: Caller) -> None:
    """An API key may be sent as bearer or as X-API-Key."""
    request = {**SOUND, "agentName": "either", "instanceId": "either-1", "incarnation": "either-life"}

    assert hub.ask("POST", CONNECT, request, headers={"X-API-Key": hub.key}).status == 200


def test_connecting_again_is_the_same_instance(hub: Caller) -> None:
    """A connect whose answer was lost can be repeated."""
    assert hub.connect("again")["agentId"] == hub.connect("again")["agentId"]


@pytest.mark.parametrize("key", [None, "", "bk_unknown", "not a key", "é", "x" * 10_000])
def test_unknown_keys_are_refused_everywhere(hub: Caller, key: str | None) -> None:
    """[G9] No key, no tokens: the code says that another one is needed."""
    headers = {} if key is None else {"X-API-Key": key.encode().decode("latin-1")}
    refresh = {"refreshToken": hub.consumer()["refreshToken"]}

    answers = [
        hub.ask("POST", CONNECT, SOUND, headers=headers),
        hub.ask("POST", REFRESH, refresh, headers=headers),
        hub.ask("POST", CONSUMER, {"apiKey": key or ""}),
    ]

    assert [(answer.status, answer.code) for answer in answers] == [(401, "API_KEY_INVALID")] * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agentName", "has-hyphen"),
        ("agentName", "a.b"),
        ("agentName", "*"),
        ("agentName", "a\n"),
        ("agentName", ""),
        ("agentName", "x" * 65),
        ("instanceId", "a.b"),
        ("instanceId", "a,b"),
        ("instanceId", "-pnpres>"),
        ("instanceId", "x" * 93),
        ("incarnation", ""),
        ("incarnation", "a b"),
        ("concurrency", 0),
        ("concurrency", "many"),
        ("card", []),
        ("billingMode", "cheap"),
    ],
)
def test_connect_refuses_what_cannot_stand_in_a_channel_or_a_row(hub: Caller, name: str, value: Any) -> None:
    """[G11] Names are checked before anything is written."""
    answered = hub.ask("POST", CONNECT, {**SOUND, name: value}, bearer=hub.key)

    assert (answered.status, answered.code) == (400, "InvalidInput")


@pytest.mark.parametrize(
    ("spoken", "status"), [(["1"], 200), (["2", "1.7"], 200), (["2"], 400), (["10", ""], 400), ([], 400)]
)
def test_another_major_version_is_refused(hub: Caller, spoken: list[str], status: int) -> None:
    """[B23] Who speaks our version among others is let in; else the refusal says which we speak."""
    answered = hub.ask("POST", CONNECT, {**SOUND, "protocolVersions": spoken, "isNewer": True}, bearer=hub.key)

    assert answered.status == status
    if status != 200:
        assert (answered.code, "version 1" in answered.json["message"]) == ("UnsupportedVersion", True)


def test_an_agent_name_belongs_to_its_first_owner(hub: Caller, bob_key: str) -> None:
    """Somebody else's name is refused, and the row stays as it was."""
    hub.connect("taken", description="mine")
    theirs = {**SOUND, "agentName": "taken", "instanceId": "theirs", "description": "stolen"}

    answered = hub.ask("POST", CONNECT, theirs, bearer=bob_key)

    assert (answered.status, answered.code) == (409, "AgentNameReserved")
    row = hub.ask("GET", "/api/v1/registry/agents?agentName=taken").json["agent"]
    assert row["description"] == "mine"


def test_billing_mode_and_listing_stay_with_the_row(hub: Caller) -> None:
    """What the first connect said of them is not changed by the next one."""
    hub.connect("billed", billingMode="paid", listing="public")

    hub.connect("billed", incarnation="billed-2", billingMode="free", listing="private", concurrency=7)

    row = hub.ask("GET", "/api/v1/registry/agents?agentName=billed").json["agent"]
    assert (row["billingMode"], row["listing"], row["scaling"]["concurrency"]) == ("paid", "public", 7)


def test_a_newer_incarnation_ends_the_older_one(hub: Caller) -> None:
    """[R10] The older one's token is still a token, and its heartbeat is told 410."""
    older = hub.connect("super")
    hub.connect("super", incarnation="super-2")

    answered = hub.ask("POST", "/api/v1/heartbeats", {}, bearer=older["accessToken"])

    assert (answered.status, answered.code) == (410, "Superseded")


def test_a_refresh_token_works_once(hub: Caller) -> None:
    """[G4] Each use gives a new pair; the used one is refused with its own code."""
    first = hub.consumer()

    second = hub.ask("POST", REFRESH, {"refreshToken": first["refreshToken"]}, bearer=hub.key)
    repeated = hub.ask("POST", REFRESH, {"refreshToken": first["refreshToken"]}, bearer=hub.key)
    third = hub.ask("POST", REFRESH, {"refreshToken": second.json["refreshToken"]}, bearer=hub.key)

    assert (second.status, third.status) == (200, 200)
    assert (repeated.status, repeated.code) == (401, "REFRESH_TOKEN_INVALID")


def test_a_refreshed_instance_is_the_same_instance(hub: Caller) -> None:
    """The new access token speaks for the incarnation that connected."""
    answer = hub.connect("fresh")

    pair = hub.ask("POST", REFRESH, {"refreshToken": answer["refreshToken"]}, bearer=hub.key).json

    assert hub.ask("POST", "/api/v1/heartbeats", {}, bearer=pair["accessToken"]).status == 200


def test_a_refresh_token_is_of_no_use_to_another_owner(hub: Caller, bob_key: str) -> None:
    """[G7] Somebody else's key does not renew it."""
    pair = hub.consumer()

    answered = hub.ask("POST", REFRESH, {"refreshToken": pair["refreshToken"]}, bearer=bob_key)

    assert (answered.status, answered.code) == (401, "REFRESH_TOKEN_INVALID")


def test_two_clients_of_one_owner_have_channels_of_their_own(hub: Caller) -> None:
    """Each consumer token names a session channel that nobody else got."""
    one, two = hub.consumer(), hub.consumer()

    assert one["userId"] == two["userId"] == "local"
    assert one["sessionChannel"] != two["sessionChannel"]


def test_a_read_token_is_for_ones_own_tasks(hub: Caller, token: str, bob: str) -> None:
    """[G7] The owner gets channel and keys, another the same answer as for no task at all."""
    hub.connect("readable")
    task_id = hub.submit(token, "readable")

    mine = hub.ask("POST", READ, {"taskId": task_id}, bearer=token)
    theirs = hub.ask("POST", READ, {"taskId": task_id}, bearer=bob)
    nobodys = hub.ask("POST", READ, {"taskId": "no-such-task"}, bearer=bob)

    assert mine.json["channel"] == f"u.local.{task_id}"
    assert (theirs.status, theirs.body) == (404, nobodys.body)


def test_an_agents_owner_gets_a_read_token(hub: Caller, token: str, bob: str) -> None:
    """As provider the agent's owner may listen to a task that somebody else sent, and nobody besides."""
    hub.connect("readable", listing="public")
    task_id = hub.submit(bob, "readable")

    mine = hub.ask("POST", READ, {"taskId": task_id, "role": "provider"}, bearer=token)
    sent = hub.ask("POST", READ, {"taskId": task_id}, bearer=bob)
    as_consumer = hub.ask("POST", READ, {"taskId": task_id}, bearer=token)
    not_his = hub.ask("POST", READ, {"taskId": task_id, "role": "provider"}, bearer=bob)

    assert mine.json["channel"] == sent.json["channel"] == f"u.bob.{task_id}"
    assert (as_consumer.status, not_his.status) == (404, 404)


@pytest.mark.parametrize(
    "field",
    [
        {"maxRunningTimeSec": 31_536_001},
        {"maxRunningTimeSec": 2**63},
        {"startedAt": 2**63},
        {"startedAt": -1},
        {"process": {"host": "h", "pid": 2**63, "started": "1"}},
        {"process": {"host": "h", "pid": -1, "started": "1"}},
    ],
)
def test_connect_refuses_numbers_that_mean_nothing(hub: Caller, field: dict[str, Any]) -> None:
    """A number beyond a year, a clock or a process id is refused by its name."""
    request = {"agentName": "numbers", "instanceId": "n-1", "incarnation": "n-life-1", **field}

    answered = hub.ask("POST", "/api/v1/auth/agent/connect", request, bearer=hub.key)

    assert answered.status == 400
    assert next(iter(field)) in answered.json["message"]
