"""Cards at the hub's doors: checked before they are kept, and minded when a task is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support_hub import Caller

AGENTS = "/api/v1/registry/agents"
CONNECT = "/api/v1/auth/agent/connect"
TASKS = "/api/v1/tasks"


def carded(name: str, **blocks: Any) -> dict[str, Any]:
    """Return a card of an agent."""
    identity = {"agentName": name, "displayName": name, "description": "d", "version": "1"}
    return {"identity": identity, **blocks}


INPUTS = {"inputs": [{"id": id_, "description": "d", "contentType": "text/plain", "required": True} for id_ in "ab"]}


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ({"runtime": {"concurrency": "2"}}, "runtime.concurrency: must be integer, not string"),
        ({"io": {"inputs": [{"id": "x"}]}}, "io.inputs[0].contentType: is missing"),
        (
            {"streams": {"_default": {"direction": "outbound", "format": "bytes", "affinity": "shared"}}},
            "streams._default.affinity: must be dedicated",
        ),
        ({"streams": {"s": {"direction": "inbound", "format": "bytes", "schema": {}}}}, "bytes have none"),
        ({"extensions": {"x": "x" * 70_000}}, "65536 allowed"),
    ],
)
def test_a_wrong_card_is_refused_at_both_doors(hub: Caller, token: str, blocks: dict[str, Any], told: str) -> None:
    """[R-59] Connecting and registering with a wrong card is 400 with path and rule, and nothing is written."""
    card = carded("wrong", **blocks)
    life = {"agentName": "wrong", "instanceId": "wrong-1", "incarnation": "wrong-life-1", "card": card}

    connected = hub.ask("POST", CONNECT, life, bearer=hub.key)
    registered = hub.ask("POST", AGENTS, {"agentName": "wrong", "card": card}, bearer=token)

    for answered in (connected, registered):
        assert (answered.status, answered.code) == (400, "InvalidInput")
        assert told in answered.json["message"]
        assert answered.json["details"]["reason"] == "card"
    assert hub.ask("GET", f"{AGENTS}?agentName=wrong").status == 404


def test_a_card_is_not_looked_at_without_a_good_key(hub: Caller) -> None:
    """Who has no key is told so, not what is wrong with his card."""
    life = {"agentName": "wrong", "instanceId": "w-1", "incarnation": "w-life-1", "card": {"runtime": 3}}

    assert hub.ask("POST", CONNECT, life, bearer="bk_made_up").status == 401


def test_a_card_with_unknown_keys_is_taken(hub: Caller) -> None:
    """[D-4] What is only a warning at a start is none of the hub's business."""
    hub.connect("loose", card={"identity": {"agentName": "loose"}, "bogus": 1})

    assert hub.ask("GET", f"{AGENTS}?agentName=loose").json["agent"]["card"]["bogus"] == 1


def test_a_part_that_the_card_does_not_know_is_refused_at_submit(hub: Caller, token: str) -> None:
    """[R-59] The refusal names the ids that the card knows; parts without an id, and other values, pass."""
    hub.connect("picky", card=carded("picky", io=INPUTS))
    refused = hub.ask(
        "POST", TASKS, {"agentName": "picky", "requestParts": [{"partId": "text", "text": "x"}]}, bearer=token
    )

    assert (refused.status, refused.code) == (400, "InvalidInput")
    assert refused.json["message"] == "agent 'picky' has no input 'text': its card knows a, b"
    assert refused.json["details"] == {"reason": "part", "partId": "text", "known": ["a", "b"]}
    assert hub.submit(token, "picky", requestParts=[{"partId": "b", "text": "x"}, {"text": "no id"}, "bare", 3])


def test_a_card_without_inputs_takes_any_part(hub: Caller, token: str) -> None:
    """[R-59] Where the card names no input every id is right."""
    hub.connect("open", card=carded("open", io={"outputs": []}))

    assert hub.submit(token, "open", requestParts=[{"partId": "whatever", "text": "x"}])


def test_a_new_card_counts_from_the_next_submit_on(hub: Caller, token: str) -> None:
    """[R-59] An agent whose card loses its inputs takes any part at once."""
    hub.connect("changing", card=carded("changing", io=INPUTS))
    hub.ask("POST", AGENTS, {"agentName": "changing", "card": carded("changing")}, bearer=token)

    assert hub.submit(token, "changing", requestParts=[{"partId": "text", "text": "x"}])


def test_parts_that_are_no_list_are_refused_where_the_card_names_inputs(hub: Caller, token: str) -> None:
    """[R-59] What cannot be looked through is refused, not passed on."""
    hub.connect("strict", card=carded("strict", io=INPUTS))

    answered = hub.ask("POST", TASKS, {"agentName": "strict", "requestParts": {"partId": "a"}}, bearer=token)

    assert (answered.status, answered.code) == (400, "InvalidInput")
