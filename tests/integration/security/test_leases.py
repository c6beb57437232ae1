"""[K3] Leases that are not the caller's: whatever is said under one changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support_probes import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena

ENDED = {"state": "completed", "lastN": 0, "digest": "d" * 64}
SAID = [{"n": 1, "body": {"type": "progress", "progress": 0.5}}]


def _changed(lease: str) -> str:
    return lease[:-1] + ("0" if lease[-1] != "0" else "1")


#: One line a probe: what the report has instead. `mine` runs the task, `other` is of the same owner and runs another.
FORGED: dict[str, Callable[[World, World], dict[str, Any]]] = {
    "empty": lambda mine, _: mine.report(lease=""),
    "guessed": lambda mine, _: mine.report(lease="0" * 64),
    "one character": lambda mine, _: mine.report(lease=_changed(mine.lease)),
    "cut": lambda mine, _: mine.report(lease=mine.lease[:-1]),
    "longer": lambda mine, _: mine.report(lease=mine.lease + "0"),
    "in capitals": lambda mine, _: mine.report(lease=mine.lease.upper() + "A"),
    "with a blank": lambda mine, _: mine.report(lease=f" {mine.lease}"),
    "with NUL": lambda mine, _: mine.report(lease=f"{mine.lease}\0"),
    "not ASCII": lambda mine, _: mine.report(lease="é" * 64),
    "very long": lambda mine, _: mine.report(lease="0" * 100_000),
    "another task's": lambda mine, other: mine.report(lease=other.lease),
    "for another task": lambda mine, other: mine.report(taskId=other.task),
    "another task with its lease": lambda _, other: other.report(),
    "an older epoch": lambda mine, _: mine.report(epoch=mine.older["epoch"]),
    "of an older epoch": lambda mine, _: mine.report(lease=mine.older["lease"]),
    "an older epoch with its lease": lambda mine, _: mine.report(**mine.older),
    "a later epoch": lambda mine, _: mine.report(epoch=mine.turn["epoch"] + 1),
    "no such task": lambda mine, _: mine.report(taskId="0" * 32),
    "the message key": lambda mine, _: mine.report(lease=mine.connected["messageKey"]),
    "the access token": lambda mine, _: mine.report(lease=mine.instance),
    "the API key": lambda mine, _: mine.report(lease=mine.key),
    "the digest of a start": lambda mine, _: mine.report(lease="e" * 64),
}
#: What is tried under each: to end the task, to speak for it, to give it back.
ACTS: dict[str, dict[str, Any]] = {
    "end": {"outcome": ENDED},
    "fail": {"outcome": {**ENDED, "state": "failed"}},
    "speak": {"events": SAID},
    "release": {"release": True},
}


@pytest.fixture(scope="module")
def other(stage: Arena, ann_key: str) -> World:
    """Give another instance of the same owner, with a task of its own."""
    return World(stage, ann_key)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("name", FORGED)
def test_a_foreign_lease_is_worth_nothing(stage: Arena, ann: World, other: World, name: str, act: str) -> None:
    """[K3] The answer tells no more than that there is no lease; nothing changes, and a record names who it was."""
    before = [world.row() for world in (ann, other)]
    # Who did hold it is told how the task stands.
    told = "running" if name == "an older epoch with its lease" else "fenced"

    answered, record = stage.refused(
        "POST", "/api/v1/reports", FORGED[name](ann, other) | ACTS[act], bearer=ann.instance
    )

    assert (answered.status, answered.json["state"], record["code"]) == (409, told, told)
    assert (record["by"], record["instance"]) == ("ann", ann.instance_id)
    assert [world.row() for world in (ann, other)] == before


@pytest.mark.parametrize("act", ACTS)
def test_the_right_lease_is_heard(stage: Arena, ann_key: str, act: str) -> None:
    """The very reports of the probes are taken with the lease of the claim, and a second outcome then is not."""
    world = World(stage, ann_key)
    report = world.report(**ACTS[act])

    assert stage.hub.ask("POST", "/api/v1/reports", report, bearer=world.instance).status == 200
    if act == "end":
        late, _ = stage.refused(
            "POST", "/api/v1/reports", world.report(outcome={**ENDED, "digest": "e" * 64}), bearer=world.instance
        )
        assert late.status == 409


@pytest.mark.parametrize("act", ACTS)
def test_a_lease_is_of_one_incarnation(stage: Arena, ann: World, other: World, bob: World, act: str) -> None:
    """[K3] Brought by another instance, of the same owner or of another one, the very report is fenced."""
    for thief in (other, bob):
        answered, record = stage.refused("POST", "/api/v1/reports", ann.report(**ACTS[act]), bearer=thief.instance)
        assert (answered.status, record["instance"]) == (409, thief.instance_id)


@pytest.mark.parametrize("act", ACTS)
def test_a_lease_ends_with_its_incarnation(stage: Arena, ann_key: str, act: str) -> None:
    """[K3] After a newer process took the name over, the older one's lease is fenced and that is written down."""
    world = World(stage, ann_key)
    stage.acts.new()
    newer = stage.hub.connect(world.agent, key=ann_key, incarnation=f"{world.agent}-life-2")
    # Until the task is offered to somebody else, the result of its last holder counts.
    stage.hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=newer["accessToken"])
    ended = [line for line in stage.acts.new() if line["event"] == "instance_ended"]

    answered, _ = stage.refused("POST", "/api/v1/reports", world.report(**ACTS[act]), bearer=world.instance)

    assert answered.status in {409, 410}
    assert [(line["state"], line["incarnation"], line["tasks"]) for line in ended] == [
        ("superseded", f"{world.agent}-life-1", 1)
    ]


def test_a_lease_ends_with_its_key(stage: Arena) -> None:
    """[K3] After its key was revoked the lease is of no use, not even by the door of late reports."""
    world = World(stage, stage.owner("dora"))
    late = {"incarnation": f"{world.agent}-life-1", "report": world.report(outcome=ENDED)}
    keys = stage.hub.ask("GET", "/api/v1/auth/keys", bearer=world.key).json["keys"]
    (made,) = [row["id"] for row in keys if row["name"] == "test"]
    stage.hub.ask("DELETE", f"/api/v1/auth/keys/{made}", bearer=stage.hub.key)

    for path, body, bearer in (
        ("/api/v1/reports", late["report"], world.instance),
        ("/api/v1/reports/late", late, world.key),
        ("/api/v1/reports/late", late, stage.owner("dorian")),
    ):
        answered, _ = stage.refused("POST", path, body, bearer=bearer)
        assert answered.status in {401, 409}


#: One line a probe: a claim of what was never offered to the caller.
CLAIMS: dict[str, Callable[[World, World], dict[str, Any]]] = {
    "another's running task": lambda _, other: {"taskId": other.task, "epoch": other.turn["epoch"]},
    "another's, next epoch": lambda _, other: {"taskId": other.task, "epoch": other.turn["epoch"] + 1},
    "own, older epoch": lambda mine, _: {"taskId": mine.task, "epoch": mine.turn["epoch"] - 1},
    "own, later epoch": lambda mine, _: {"taskId": mine.task, "epoch": mine.turn["epoch"] + 1},
    "own, ended": lambda mine, _: {"taskId": mine.failed, "epoch": 7},
    "no such task": lambda _m, _o: {"taskId": "0" * 32, "epoch": 1},
    "no such epoch": lambda mine, _: {"taskId": mine.task, "epoch": 2**40},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_not_offered_is_not_claimed(stage: Arena, ann: World, bob: World, name: str) -> None:
    """[K3] No lease comes back, nothing of a foreign task is told, and its holder goes on."""
    answered, _ = stage.refused("POST", "/api/v1/claims", CLAIMS[name](ann, bob), bearer=ann.instance)

    assert answered.status == 409
    assert "lease" not in answered.json
    assert stage.hub.ask("POST", "/api/v1/reports", bob.report(), bearer=bob.instance).status == 200


@pytest.mark.parametrize("name", CLAIMS)
def test_a_nack_of_what_was_not_offered_changes_nothing(stage: Arena, ann: World, bob: World, name: str) -> None:
    """[K3] A refusal of somebody else's task is heard and without effect."""
    before = bob.row(), ann.row()

    answered = stage.hub.ask("POST", "/api/v1/claims", CLAIMS[name](ann, bob) | {"nack": "busy"}, bearer=ann.instance)

    assert (answered.status, answered.json["lease"]) == (200, "")
    assert (bob.row(), ann.row()) == before


def test_an_output_needs_the_run(stage: Arena, ann: World, bob: World) -> None:
    """[K3] Who does not run a task stores no file for it; who does, does."""
    output = {"role": "provider-output", "fileSize": 1, "fileName": "o", "taskId": ann.task}
    older = {**output, "epoch": ann.turn["epoch"] - 1}

    for body, bearer in ((output, bob.instance), (older, ann.instance), ({**output, "taskId": "x"}, ann.instance)):
        answered, record = stage.refused("POST", "/api/v1/files/request-upload", body, bearer=bearer)
        assert (answered.status, record["code"]) == (409, "Fenced")
    assert stage.hub.ask("POST", "/api/v1/files/request-upload", output, bearer=ann.instance).status == 200


def test_processes_that_fight_for_a_name_are_kept_out(stage: Arena, ann_key: str) -> None:
    """[K3] Superseded ones that speak again and again end in a refusal of the name, which leaves a record."""
    world = World(stage, ann_key)
    body = {"agentName": world.agent, "instanceId": world.instance_id}
    last = world.instance
    for life in range(2, 8):
        connected = stage.hub.connect(world.agent, key=ann_key, incarnation=f"{world.agent}-life-{life}")
        gone, record = stage.refused("POST", "/api/v1/heartbeats", {"free": 0}, bearer=last)
        assert (gone.status, record["code"]) == (410, "Superseded")
        last = str(connected["accessToken"])

    answered, record = stage.refused(
        "POST", "/api/v1/auth/agent/connect", {**body, "incarnation": f"{world.agent}-life-9"}, bearer=ann_key
    )

    assert (answered.status, record["code"], record["key"][:4]) == (403, "Quarantined", "key_")
