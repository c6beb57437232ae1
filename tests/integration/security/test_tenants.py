"""[K4] What is another owner's is not there: every door that takes an id, in several spellings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support_probes import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "encoded": lambda text: f"%{ord(text[0]):02X}{text[1:]}",
    "in capitals": str.upper,
    "with a blank": lambda text: f"{text}%20",
    "with NUL": lambda text: f"{text}%00",
    "doubly encoded": lambda text: f"%25{ord(text[0]):02X}{text[1:]}",
}
#: One line a door whose address has an id: verb, address, field of the world, body, status for the owner.
ADDRESSES: list[tuple[str, str, str, dict[str, Any] | None, int]] = [
    ("GET", "/api/v1/tasks/{}", "task", None, 200),
    ("GET", "/api/v1/tasks/{}/events", "task", None, 200),
    ("POST", "/api/v1/tasks/{}/cancel", "task", {}, 202),
    ("POST", "/api/v1/tasks/{}/cancel", "failed", {}, 200),
    ("GET", "/api/v1/tasks/{}/steps", "task", None, 200),
    ("POST", "/api/v1/tasks/{}/answer", "task", {"askId": "ask-1", "value": 1}, 409),
    ("POST", "/api/v1/tasks/{}/retry", "failed", {}, 201),
    ("POST", "/api/v1/tasks/{}/pause", "task", {"pauseSeq": 0}, 202),
    ("POST", "/api/v1/tasks/{}/resume", "task", {"pauseSeq": 0}, 202),
    ("DELETE", "/api/v1/tasks/{}", "failed", None, 200),
    ("GET", "/api/v1/files/{}", "file", None, 200),
    ("POST", "/api/v1/registry/agents/{}/offline", "agent", {}, 200),
    ("POST", "/api/v1/registry/agents/{}/online", "agent", {}, 200),
    ("POST", "/api/v1/registry/instances/{}/drain", "instance_id", {}, 202),
    ("GET", "/api/v1/registry/agents?agentName={}", "agent", None, 200),
    ("DELETE", "/api/v1/registry/agents?agentName={}", "agent", None, 409),
]


def _named(line: tuple[str, str, str, dict[str, Any] | None, int]) -> str:
    return f"{line[0]} {line[1].removeprefix('/api/v1/').format(line[2])}"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("line", ADDRESSES, ids=_named)
def test_a_foreign_id_is_answered_as_an_unknown_one(
    stage: Arena, ann: World, bob: World, line: tuple[str, str, str, dict[str, Any] | None, int], spelling: str
) -> None:
    """[K4] [G7] 404 with the very bytes of what does not exist; nothing changed, and the record says who asked."""
    method, path, name, body, _ = line
    before = ann.row()
    wanted = SPELLINGS[spelling](str(getattr(ann, name)))

    answered, record = stage.refused(method, path.format(wanted), body, bearer=bob.consumer)
    unknown, _ = stage.refused(method, path.format("x" * 32), body, bearer=bob.consumer)

    assert (answered.status, answered.body) == (404, unknown.body)
    assert (record["by"], record["code"]) == ("bob", "NotFound")
    assert ann.row() == before


@pytest.mark.parametrize("line", ADDRESSES, ids=_named)
def test_their_owner_is_served(
    stage: Arena, ann_key: str, line: tuple[str, str, str, dict[str, Any] | None, int]
) -> None:
    """The very requests of the probes are answered to whose the ids are."""
    method, path, name, body, status = line
    world = World(stage, ann_key)

    assert stage.hub.ask(method, path.format(getattr(world, name)), body, bearer=world.consumer).status == status


@dataclass(frozen=True)
class Named:
    """Be a request whose body names what is somebody else's; `holds` is the credential of who asks."""

    path: str
    body: Callable[[World], Any]
    refused: frozenset[tuple[int, str]]
    holds: str = "consumer"
    owner: int = 200


NOT_THERE = frozenset({(404, "NotFound")})
FENCED = frozenset({(409, "fenced")})


def _parts(ref: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"partId": "input", "artifactRef": ref}]


#: One line a body that names an id; `{a}` is what the owner himself gets.
BODIES = [
    Named("/api/v1/events", lambda w: {"taskId": w.task}, NOT_THERE),
    Named("/api/v1/events", lambda w: {"taskId": w.failed}, NOT_THERE),
    Named("/api/v1/events", lambda w: {"taskId": w.task, "listen": "free"}, NOT_THERE),
    Named("/api/v1/auth/task-read-token", lambda w: {"taskId": w.task}, NOT_THERE),
    Named("/api/v1/auth/task-read-token", lambda w: {"taskId": w.task, "role": "provider"}, NOT_THERE),
    Named("/api/v1/files/confirm-upload", lambda w: {"uploadId": w.file}, NOT_THERE),
    Named(
        "/api/v1/tasks",
        lambda w: {"agentName": w.agent},
        frozenset({(404, "AgentNotFound"), (404, "NotFound")}),
        owner=201,
    ),
    Named("/api/v1/registry/agents", lambda w: {"agentName": w.agent}, frozenset({(409, "AgentNameReserved")})),
    Named(
        "/api/v1/auth/agent/connect",
        lambda w: {"agentName": w.agent, "instanceId": "thief", "incarnation": f"thief-{w.agent}"},
        frozenset({(409, "AgentNameReserved")}),
        holds="key",
    ),
    Named(
        "/api/v1/auth/agent/refresh",
        lambda w: {"refreshToken": w.connected["refreshToken"]},
        frozenset({(401, "REFRESH_TOKEN_INVALID")}),
        holds="key",
    ),
    Named(
        "/api/v1/reports/late",
        lambda w: {"incarnation": f"{w.agent}-life-1", "report": w.report()},
        FENCED,
        holds="key",
    ),
    Named("/api/v1/reports", lambda w: w.report(), FENCED, holds="instance"),
    Named(
        "/api/v1/claims",
        lambda w: {"taskId": w.task, "epoch": w.turn["epoch"]},
        FENCED,
        holds="instance",
    ),
]


@pytest.mark.parametrize("named", BODIES, ids=lambda named: named.path.removeprefix("/api/v1/"))
def test_a_foreign_id_in_a_body_is_no_better(stage: Arena, ann: World, bob: World, named: Named) -> None:
    """[K4] By a body a foreign thing is not reached either, alone or within a batch."""
    before = ann.row()
    held = bob.credentials()[named.holds]

    answered, record = stage.refused("POST", named.path, named.body(ann), bearer=held)

    assert (answered.status, record["code"]) in named.refused
    assert ann.row() == before


@pytest.mark.parametrize("named", BODIES, ids=lambda named: named.path.removeprefix("/api/v1/"))
def test_their_owner_may_name_them(stage: Arena, ann_key: str, named: Named) -> None:
    """The very bodies of the probes are taken from whose the ids are."""
    world = World(stage, ann_key)

    answered = stage.hub.ask("POST", named.path, named.body(world), bearer=world.credentials()[named.holds])

    assert answered.status == named.owner


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/reports", "/api/v1/claims"])
def test_one_foreign_item_of_a_batch_is_refused_alone(stage: Arena, ann: World, bob: World, path: str) -> None:
    """[K4] The others are answered; the record counts what was refused."""
    items = {
        "/api/v1/events": [{"taskId": bob.task}, {"taskId": ann.task}],
        "/api/v1/reports": [bob.report(), ann.report()],
        "/api/v1/claims": [{"taskId": world.task, "epoch": world.turn["epoch"]} for world in (bob, ann)],
    }[path]
    bearer = bob.consumer if path == "/api/v1/events" else bob.instance
    stage.refusals.new()

    answered = stage.hub.ask("POST", path, items, bearer=bearer)

    assert [item["status"] < 400 for item in answered.json] == [True, False]
    (record,) = stage.refusals.new()
    assert (record["by"], record["items"], record["route"]) == ("bob", 1, path)


@pytest.mark.parametrize("field", ["idempotencyKey", "taskId"])
def test_a_foreign_key_of_a_submit_is_ones_own(stage: Arena, ann_key: str, bob_key: str, field: str) -> None:
    """[K4] An idempotency key is an owner's own; the id of a foreign task is in use, and no more is told."""
    ann, bob = World(stage, ann_key), World(stage, bob_key)
    first = stage.hub.ask(
        "POST",
        "/api/v1/tasks",
        {"agentName": ann.agent, field: f"0000-{ann.agent}"[:36].replace("_", "-")},
        bearer=ann.consumer,
    )
    body = {"agentName": bob.agent, field: f"0000-{ann.agent}".replace("_", "-")}

    second = stage.hub.ask("POST", "/api/v1/tasks", body, bearer=bob.consumer)

    assert first.status == 201
    if field == "taskId":
        assert second.status == 409
        assert ann.agent not in second.body.decode()
    else:
        assert (second.status, second.json["taskId"] == first.json["taskId"]) == (201, False)


@pytest.mark.parametrize("name", ["task", "failed", "file", "agent"])
def test_lists_show_ones_own_only(stage: Arena, ann: World, bob: World, name: str) -> None:
    """[K4] No list, filter or cursor shows what is somebody else's."""
    held = str(getattr(ann, name))
    for path in (
        "/api/v1/tasks?limit=256",
        f"/api/v1/tasks?agent={ann.agent}",
        f"/api/v1/tasks?cursor={ann.task}&limit=256",
        "/api/v1/registry/agents?limit=500&include=full",
        "/api/v1/registry/agents?listing=private",
        f"/api/v1/registry/agents?cursor={ann.agent[:-1]}",
    ):
        assert held not in stage.hub.ask("GET", path, bearer=bob.consumer).body.decode()


@pytest.mark.parametrize("of", ["test", "made", "local"])
def test_keys_of_others_are_neither_shown_nor_revoked(stage: Arena, ann: World, bob: World, of: str) -> None:
    """[K4] Another owner's key, and the hub's own, is not there for who is not the hub's owner."""
    keys = stage.hub.ask("GET", "/api/v1/auth/keys", bearer=stage.hub.key).json["keys"]
    wanted = next(row["id"] for row in keys if row["name"] == of and row["owner"] != "bob")

    answered, record = stage.refused("DELETE", f"/api/v1/auth/keys/{wanted}", bearer=bob.key)

    assert (answered.status, record["id"], record["key"][:4]) == (404, wanted, "key_")
    assert wanted not in stage.hub.ask("GET", "/api/v1/auth/keys", bearer=bob.key).body.decode()
    assert stage.hub.ask("GET", "/api/v1/auth/keys", bearer=ann.key).status == 200


def test_nobody_makes_keys_for_others(stage: Arena, bob: World) -> None:
    """[K4] Only the hub's owner names another owner; reserved names are nobody's."""
    for owner in ("ann", "local"):
        answered, _ = stage.refused("POST", "/api/v1/auth/keys", {"name": "x", "owner": owner}, bearer=bob.key)
        assert answered.status == 403
    for owner in ("agent", "sys", "u", "a.b", "*", "", "a" * 65):
        answered, _ = stage.refused("POST", "/api/v1/auth/keys", {"name": "x", "owner": owner}, bearer=stage.hub.key)
        assert answered.status == 400


@pytest.mark.parametrize("what", ["task", "shared", "digits", "other"])
def test_streams_of_others_are_not_granted(stage: Arena, ann: World, bob: World, what: str) -> None:
    """[K4] Each stream that is refused says so, tells no channel, and leaves a record; the owner is granted his."""
    stream = {"task": f"{ann.task}-1", "shared": "news", "digits": f"{ann.task}-99", "other": f"{bob.task}-1"}[what]
    body = {"streams": [{"taskId": ann.task, "streamId": stream}]}
    for bearer in (bob.consumer, bob.instance):
        stage.refusals.new()
        answered = stage.hub.ask("POST", "/api/v1/streams/grants", body, bearer=bearer).json["streams"][0]
        (record,) = stage.refusals.new()
        assert (answered["refused"], answered.get("channel"), record["by"]) == ("NotFound", None, "bob")
    if what != "other":
        own = stage.hub.ask("POST", "/api/v1/streams/grants", body, bearer=ann.consumer).json["streams"][0]
        assert own.get("refused") is None


def test_a_file_of_another_is_no_input(stage: Arena, ann: World, bob: World) -> None:
    """[K4] A task cannot be given a file of somebody else, and so not read it through an agent of one's own."""
    ref = {"kind": "file", "fileId": ann.file, "mimeType": "text/plain", "size": 6}
    body = {"agentName": bob.agent, "requestParts": _parts(ref)}

    answered, _ = stage.refused("POST", "/api/v1/tasks", body, bearer=bob.consumer)

    assert answered.status in {400, 404}
    own = {"agentName": ann.agent, "requestParts": _parts(ref)}
    assert stage.hub.ask("POST", "/api/v1/tasks", own, bearer=ann.consumer).status == 201


def test_a_parent_of_another_is_none(stage: Arena, ann: World, bob: World) -> None:
    """[K4] A sub-task hangs on a task that the caller holds, and on no other."""
    body = {"agentName": bob.agent, "parentTaskId": ann.task}

    answered, _ = stage.refused("POST", "/api/v1/tasks", body, bearer=bob.consumer)

    assert answered.status in {400, 404, 409}
