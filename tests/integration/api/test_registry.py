"""The registry: which agents are shown to whom, and who may write their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support_hub import Caller

AGENTS = "/api/v1/registry/agents"
CARD = {
    "identity": {"agentName": "carded", "displayName": "Carded", "description": "has a card"},
    "tags": ["fast", {"id": "cheap", "name": "Cheap"}],
}


def test_an_agent_is_shown_as_its_card_says(hub: Caller) -> None:
    """Name, description and tags come from the card."""
    hub.connect("carded", card=CARD, concurrency=3)

    row = hub.ask("GET", f"{AGENTS}?agentName=carded").json["agent"]

    assert (row["name"], row["description"], row["card"]) == ("Carded", "has a card", CARD)
    assert row["tags"] == [{"id": "fast", "name": "fast"}, {"id": "cheap", "name": "Cheap"}]


def test_agents_are_found_by_tag(hub: Caller) -> None:
    """A tag matches by its id or its name."""
    hub.connect("carded", card=CARD)

    found = [hub.ask("GET", f"{AGENTS}?tag={tag}").json["agents"] for tag in ("fast", "Cheap", "nobody's")]

    assert [[row["agentName"] for row in rows] for rows in found] == [["carded"], ["carded"], []]


def test_private_agents_are_shown_to_their_owner_only(hub: Caller, bob_key: str, bob: str, token: str) -> None:
    """To others a private agent is not there; its owner sees it by name and in the list."""
    hub.connect("hidden", key=bob_key)

    private = hub.ask("GET", f"{AGENTS}?agentName=hidden", bearer=token)
    absent = hub.ask("GET", f"{AGENTS}?agentName=absent", bearer=token)
    listed = hub.ask("GET", f"{AGENTS}?listing=private&limit=500", bearer=bob).json["agents"]

    assert (private.status, private.body) == (404, absent.body)
    assert hub.ask("GET", f"{AGENTS}?agentName=hidden", bearer=bob).status == 200
    assert "hidden" in [row["agentName"] for row in listed]
    assert "hidden" not in [row["agentName"] for row in hub.ask("GET", f"{AGENTS}?limit=500").json["agents"]]


def test_the_full_list_tells_the_instances(hub: Caller) -> None:
    """An instance that beats is listed with what it has to do."""
    instance = hub.connect("listed", concurrency=2)["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 2}, bearer=instance)

    rows = hub.ask("GET", f"{AGENTS}?include=full&limit=500").json["agents"]

    (instances,) = (row["instances"] for row in rows if row["agentName"] == "listed")
    assert [(row["instanceId"], row["state"], row["concurrency"]) for row in instances] == [("listed-1", "ready", 2)]


def test_pages_hold_every_agent_once(hub: Caller) -> None:
    """Following `next` shows all agents in order of their names."""
    for number in range(3):
        hub.connect(f"page_{number}")

    seen, cursor = [], ""
    while cursor is not None:
        page = hub.ask("GET", f"{AGENTS}?limit=2&cursor={cursor}").json
        seen += [row["agentName"] for row in page["agents"]]
        cursor = page["next"]

    assert seen == sorted(set(seen))
    assert len(seen) == page["totalCount"]


def test_an_owner_writes_and_removes_a_row(hub: Caller, token: str) -> None:
    """201 when made, 200 when changed, 204 when removed, 404 after that."""
    answers = [
        hub.ask("POST", AGENTS, {"agentName": "written", "listing": "private"}, bearer=token),
        hub.ask("POST", AGENTS, {"agentName": "written", "billingMode": "paid"}, bearer=token),
    ]
    removed = [hub.ask("DELETE", f"{AGENTS}?agentName=written", bearer=token).status for _ in range(2)]

    assert [answer.status for answer in answers] == [201, 200]
    row = answers[1].json["agent"]
    assert (row["listing"], row["billingMode"]) == ("private", "paid")
    assert removed == [204, 404]


def test_others_neither_write_nor_remove_it(hub: Caller, token: str, bob: str) -> None:
    """[G7] A foreign name is reserved to write and not there to remove."""
    hub.ask("POST", AGENTS, {"agentName": "guarded"}, bearer=token)

    assert hub.ask("POST", AGENTS, {"agentName": "guarded"}, bearer=bob).code == "AgentNameReserved"
    assert hub.ask("DELETE", f"{AGENTS}?agentName=guarded", bearer=bob).status == 404


def test_an_agent_with_tasks_stays(hub: Caller, token: str) -> None:
    """An agent that somebody waits for is not removed, so that nobody else can take its name and its tasks. [G7]"""
    hub.ask("POST", AGENTS, {"agentName": "wanted"}, bearer=token)
    task_id = hub.submit(token, "wanted")
    waiting = hub.ask("DELETE", f"{AGENTS}?agentName=wanted", bearer=token)
    instance = hub.connect("wanted")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    offered = hub.ask("DELETE", f"{AGENTS}?agentName=wanted", bearer=token)
    hub.run(instance, task_id)
    ended = hub.ask("DELETE", f"{AGENTS}?agentName=wanted", bearer=token)

    assert [(each.status, each.code) for each in (waiting, offered)] == [(409, "AgentHasTasks")] * 2
    assert ended.status == 204


def test_an_instance_that_is_to_drain_is_told_until_it_says_that_it_does(hub: Caller, token: str) -> None:
    """[P7] It stands as draining at once, is offered nothing, and hears it with each beat until it obeys."""
    process = {"host": "elsewhere", "pid": 7, "started": "1"}
    instance = hub.connect("drained", concurrency=2, process=process)["accessToken"]
    beat = {"free": 2, "sdkVersion": "9.9"}
    hub.ask("POST", "/api/v1/heartbeats", beat, bearer=instance)

    asked = hub.ask("POST", "/api/v1/registry/instances/drained-1/drain", {"reason": "deploy"}, bearer=token)
    hub.submit(token, "drained")
    answers = [hub.ask("POST", "/api/v1/heartbeats", beat | more, bearer=instance).json for more in ({}, {})]
    obeyed = hub.ask("POST", "/api/v1/heartbeats", beat | {"draining": True}, bearer=instance).json

    assert asked.status == 202
    assert [(row["instanceId"], row["state"], row["sdkVersion"]) for row in asked.json["instances"]] == [
        ("drained-1", "draining", "9.9")
    ]
    assert asked.json["processes"] == [process]
    assert [(answer["drain"], answer["offers"]) for answer in (*answers, obeyed)] == [
        (True, []),
        (True, []),
        (False, []),
    ]


def test_only_its_owner_and_the_hubs_drain_an_instance(hub: Caller, bob_key: str, bob: str, token: str) -> None:
    """To others it is not there, as one that never was."""
    hub.connect("bobs_drained", key=bob_key)
    hub.connect("locals_drained")
    asked = {
        (who, name): hub.ask("POST", f"/api/v1/registry/instances/{name}-1/drain", bearer=bearer).status
        for who, bearer in (("bob", bob), ("local", token))
        for name in ("bobs_drained", "locals_drained", "nobody")
    }

    assert [key for key, status in asked.items() if status == 202] == [
        ("bob", "bobs_drained"),
        ("local", "bobs_drained"),
        ("local", "locals_drained"),
    ]
    assert {status for status in asked.values() if status != 202} == {404}
