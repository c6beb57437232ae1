"""What is read from the words of a door."""

from __future__ import annotations

from blocks_worker.hub.api.calls import Answer, Call, Door
from blocks_worker.hub.api.openapi import document, is_open, lets_in, statuses
from blocks_worker.protocol.tasks import CancelTask, TaskRow


async def _first(_call: Call) -> Answer:
    """Show one of at most 256 things.

    Query: after, word
    Who: consumer, the instance's owner or the hub's
    Answers: 200 it is there
        · 404 · 409 `Odd`, within 15 min: 30 of them
    """
    return Answer(200, b"{}")


async def _second(_call: Call) -> Answer:
    """Do a thing.

    Who: whoever has the address
    Answers: 202 begun · else as `GET things/{id}`
    """
    return Answer(202, b"{}")


DOORS = [
    Door("GET", "/api/v1/things/{id}", _first, gives=TaskRow),
    Door("PUT", "/api/v1/things/{id}", _second, takes=CancelTask, gives=bytes),
]


def test_statuses_are_read_with_what_they_mean() -> None:
    """Other numbers in the text are none, and a door may name another one."""
    first, second = (statuses(door, DOORS) for door in DOORS)

    assert first == {200: "200 it is there", 404: "404", 409: "409 `Odd`, within 15 min: 30 of them"}
    assert second == {202: "202 begun", **first}


def test_who_may_ask_is_read_too() -> None:
    """Words in the genitive are not who asks; an address that is a secret is open."""
    assert [lets_in(door) for door in DOORS] == [["consumer"], []]
    assert [is_open(door) for door in DOORS] == [False, True]


def test_a_door_is_an_operation() -> None:
    """Its parameters are those of its path and query, its bodies those of its types."""
    made = document(DOORS)

    shown, done = made["paths"]["/api/v1/things/{id}"]["get"], made["paths"]["/api/v1/things/{id}"]["put"]
    assert [(each["name"], each["in"]) for each in shown["parameters"]] == [
        ("id", "path"),
        ("after", "query"),
        ("word", "query"),
    ]
    assert shown["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/TaskRow"
    }
    assert "requestBody" not in shown
    assert done["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/CancelTask"}
    assert list(done["responses"]["202"]["content"]) == ["*/*"]
    assert {"TaskRow", "OpenQuestion", "CancelTask", "Problem", "ItemAnswer"} == set(made["components"]["schemas"])
