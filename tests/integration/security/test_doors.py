"""[K2] Every kind of credential at every door of the hub: what opens it, and that nothing else does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support_probes import DATA, World

import blocks_worker.hub.api as doors_of_the_hub

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena

CONSUMER, INSTANCE, KEY = frozenset({"consumer"}), frozenset({"instance"}), frozenset({"key"})
EITHER = CONSUMER | INSTANCE


@dataclass(frozen=True)
class Asked:
    """Be a request that is good when the right credential comes along; `body` is made from a world."""

    method: str
    path: str
    opens: frozenset[str]
    body: Callable[[World], Any] = lambda _: None
    status: int = 200
    #: Who is let in, and told that there is no such thing.
    hidden: frozenset[str] = frozenset()


def _ending(world: World) -> dict[str, Any]:
    return world.report(outcome={"state": "completed", "lastN": 0, "digest": "d" * 64})


#: One line a door; each word in braces is a field of the world.
DOORS = [
    Asked("POST", "/api/v1/tasks", CONSUMER, lambda w: {"agentName": w.agent}, 201),
    Asked("POST", "/api/v1/events", CONSUMER, lambda w: {"taskId": w.task}),
    Asked("GET", "/api/v1/tasks", CONSUMER),
    Asked("GET", "/api/v1/tasks/{task}", CONSUMER),
    Asked("GET", "/api/v1/tasks/{task}/events", CONSUMER),
    Asked("GET", "/api/v1/tasks/{task}/steps", EITHER),
    Asked("POST", "/api/v1/tasks/{task}/cancel", CONSUMER, lambda _: {}, 202),
    # The owner is let in, and told that nothing is asked.
    Asked("POST", "/api/v1/tasks/{task}/answer", CONSUMER, lambda _: {"askId": "ask-1", "value": 1}, 409),
    Asked("POST", "/api/v1/tasks/{failed}/retry", CONSUMER, lambda _: {}, 201),
    Asked("POST", "/api/v1/tasks/{task}/pause", CONSUMER, lambda _: {"pauseSeq": 0}, 202),
    Asked("POST", "/api/v1/tasks/{task}/resume", CONSUMER, lambda _: {"pauseSeq": 0}, 202),
    Asked("DELETE", "/api/v1/tasks/{failed}", CONSUMER),
    Asked("POST", "/api/v1/claims", INSTANCE, lambda w: {"taskId": w.task, "epoch": w.turn["epoch"]}),
    Asked("POST", "/api/v1/reports", INSTANCE, _ending),
    Asked("POST", "/api/v1/heartbeats", INSTANCE, lambda _: {"free": 0}),
    Asked("POST", "/api/v1/reports/late", KEY, lambda w: {"incarnation": f"{w.agent}-life-1", "report": _ending(w)}),
    Asked(
        "POST",
        "/api/v1/streams/grants",
        EITHER,
        lambda w: {"streams": [{"taskId": w.task, "streamId": f"{w.task}-1"}]},
    ),
    Asked(
        "POST",
        "/api/v1/auth/agent/connect",
        KEY,
        lambda w: {"agentName": w.agent, "instanceId": w.instance_id, "incarnation": f"{w.agent}-life-1"},
    ),
    Asked("POST", "/api/v1/auth/agent/refresh", KEY, lambda w: {"refreshToken": w.login["refreshToken"]}),
    Asked("POST", "/api/v1/auth/agent/consumer-token", KEY),
    Asked("POST", "/api/v1/auth/session", EITHER),
    Asked("POST", "/api/v1/auth/task-read-token", CONSUMER, lambda w: {"taskId": w.task}),
    Asked("POST", "/api/v1/auth/keys", KEY, lambda _: {"name": "another"}, 201),
    Asked("GET", "/api/v1/auth/keys", KEY),
    Asked("DELETE", "/api/v1/auth/keys/{made[id]}", KEY, status=204),
    # An owner's key is known here, and told that it is not the hub's owner's.
    Asked("POST", "/api/v1/auth/signing-keys", KEY, lambda _: {}, 403),
    Asked("POST", "/api/v1/registry/agents", CONSUMER, lambda w: {"agentName": f"{w.agent}_b"}, 201),
    Asked("DELETE", "/api/v1/registry/agents?agentName={agent}", CONSUMER, status=409),
    Asked("POST", "/api/v1/registry/agents/{agent}/offline", CONSUMER),
    Asked("POST", "/api/v1/registry/agents/{agent}/online", CONSUMER),
    Asked("POST", "/api/v1/registry/instances/{instance_id}/drain", CONSUMER, lambda _: {}, 202),
    Asked("POST", "/api/v1/files/request-upload", CONSUMER, lambda w: dict(w.upload_body)),
    Asked("POST", "/api/v1/files/confirm-upload", CONSUMER, lambda w: {"uploadId": w.file}, hidden=INSTANCE),
    Asked("GET", "/api/v1/files/{file}", CONSUMER, hidden=INSTANCE),
]
OUTPUT = {"role": "provider-output", "fileSize": len(DATA), "fileName": "o.bin"}
KINDS = [
    "nothing",
    "key",
    "consumer",
    "instance",
    "consumer refresh",
    "instance refresh",
    "session grant",
    "control grant",
    "task grant",
    "stream grant",
    "handed out",
    "message key",
    "lease",
    "upload address",
    "key id",
]
#: Doors for anybody: what they show is no secret, or the address is the secret.
OPEN = {
    "GET /livez",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /api/v1/cdm",
    "GET /api/v1/openapi.json",
    "GET /api/v1/registry/agents",
    "PUT /api/v1/files/uploads/{token}",
    "GET /api/v1/files/uploads/{token}",
}


def _named(door: Asked) -> str:
    return f"{door.method} {door.path.removeprefix('/api/v1/').partition('?')[0]}"


def _sent(door: Asked, world: World) -> tuple[str, str, Any]:
    return door.method, door.path.format_map(vars(world)), door.body(world)


def test_every_door_of_the_hub_has_its_line() -> None:
    """[K2] A door that is added has to say here who may open it."""
    folder = Path(str(doors_of_the_hub.__file__)).parent
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    there = {f"{method} {path}" for method, path in re.findall(r'Door\(\s*"([A-Z]+)",\s+"([^"]+)"', code)}

    lines = {f"{door.method} {door.path.partition('?')[0]}" for door in DOORS} | OPEN
    assert {re.sub(r"{[^}]+}", "{}", name) for name in lines} == {re.sub(r"{[^}]+}", "{}", name) for name in there}


@pytest.mark.parametrize("door", DOORS, ids=_named)
def test_what_opens_a_door_opens_it(stage: Arena, ann_key: str, door: Asked) -> None:
    """The very request of the probes is answered as it should be when the right credential comes along."""
    statuses = []
    for kind in sorted(door.opens):
        world = World(stage, ann_key)
        statuses.append(stage.hub.ask(*_sent(door, world), bearer=world.credentials()[kind]).status)

    assert set(statuses) == {door.status}


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        pytest.param(door, kind, id=f"{_named(door)} by {kind}")
        for door in DOORS
        for kind in KINDS
        if kind not in door.opens
    ],
)
def test_nothing_else_opens_it(stage: Arena, ann: World, door: Asked, kind: str) -> None:
    """[K2] Another credential of the very owner is 401 and leaves a record; nothing changed."""
    before = ann.row()

    answered, record = stage.refused(*_sent(door, ann), bearer=ann.credentials()[kind])

    assert answered.status == (404 if kind in door.hidden else 401)
    assert record["code"] == answered.code
    assert ann.row() == before


@pytest.mark.parametrize("kind", ["consumer", "instance"])
def test_the_role_of_a_file_asks_for_its_own_credential(stage: Arena, ann: World, kind: str) -> None:
    """[K2] An output is the run's, an input the consumer's, and the other one's token is 401."""
    outputs = {**OUTPUT, "taskId": ann.task}
    body = outputs if kind == "consumer" else dict(ann.upload_body)

    other = {"consumer": ann.instance, "instance": ann.consumer}[kind]
    answered, _ = stage.refused("POST", "/api/v1/files/request-upload", body, bearer=ann.credentials()[kind])

    assert answered.status == 401
    assert stage.hub.ask("POST", "/api/v1/files/request-upload", body, bearer=other).status == 200


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nothing"])
@pytest.mark.parametrize("where", ["query", "cookie", "basic", "bare", "body"])
def test_a_credential_counts_in_its_own_place_only(stage: Arena, ann: World, kind: str, where: str) -> None:
    """[K2] In an address, a cookie, as password or in a body a token is none: 401, though it is good."""
    held = ann.credentials()[kind]
    headers = {"cookie": {"Cookie": f"token={held}"}, "basic": {"Authorization": f"Basic {held}"}}
    headers["bare"] = {"Authorization": str(held)}
    path = f"/api/v1/tasks?token={held}&access_token={held}&auth={held}" if where == "query" else "/api/v1/tasks"
    body = {"accessToken": held, "token": held, "agentName": ann.agent} if where == "body" else None

    method = "POST" if where == "body" else "GET"
    answered, _ = stage.refused(method, path, body, headers=headers.get(where, {}))

    assert (answered.status, answered.code) == (401, "TokenMissing")


def test_the_address_of_an_upload_opens_once(stage: Arena, ann_key: str) -> None:
    """[K2] Whoever has it may send the bytes, once; a guessed one is not there, and no record repeats it."""
    world = World(stage, ann_key)
    path = f"/api/v1/files/uploads/{world.upload}"

    assert stage.hub.ask("GET", path).json["offset"] == 0
    assert stage.hub.ask("PUT", path, DATA).status == 200
    for spelled in (
        path,
        path[:-1],
        f"{path}x",
        path.upper().replace("/API/V1/FILES/UPLOADS", "/api/v1/files/uploads"),
    ):
        for method in ("PUT", "GET"):
            answered, record = stage.refused(method, spelled, DATA)
            assert answered.status == 404
            assert world.upload not in str(record)


def test_a_revoked_key_is_told_so_at_every_door(stage: Arena, ann_key: str) -> None:
    """[K2] Once its key is revoked everything that was traded for it is 401 everywhere, with who it was."""
    world = World(stage, stage.owner("carl"))
    (made,) = [
        row["id"]
        for row in stage.hub.ask("GET", "/api/v1/auth/keys", bearer=world.key).json["keys"]
        if row["name"] == "test"
    ]
    assert stage.hub.ask("DELETE", f"/api/v1/auth/keys/{made}", bearer=stage.hub.key).status == 204

    for door in DOORS:
        for kind in sorted(door.opens):
            answered, record = stage.refused(*_sent(door, world), bearer=world.credentials()[kind])
            assert (answered.status, answered.code) in {(401, "TokenRevoked"), (401, "API_KEY_INVALID")}, door
            assert record["code"] == answered.code
