"""[K5] [K9] Bodies that say more than they may, or that are made to hurt whoever reads them."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from support_probes import DATA, World

if TYPE_CHECKING:
    from support_probes import Arena

#: Fields that are the hub's to write, each with what an attacker would like.
OURS: dict[str, Any] = {
    "owner": "bob",
    "ownerId": "bob",
    "orgId": "bob",
    "tenant": "bob",
    "userId": "bob",
    "key": "key_0000000000000000",
    "state": "completed",
    "status": "completed",
    "epoch": 99,
    "attempt": 99,
    "seq": 1,
    "lastN": 99,
    "leasedAt": 1,
    "createdTime": 1,
    "updatedTime": 1,
    "endedTime": 1,
    "purgeAt": 1,
    "purge_at": 1,
    "readyAt": 1,
    "lost": 99,
    "inc": "thief",
    "incarnation": "thief",
    "error": "x",
    "errorCode": "x",
    "reason": "x",
    "cancelRequested": True,
    "pauseSeq": 99,
    "retryOf": "x",
    "digest": "0" * 64,
    "__proto__": {"owner": "bob"},
    "constructor": {"prototype": {"owner": "bob"}},
}
#: What may differ between two tasks of the same body.
_OWN = {"taskId", "createdTime", "updatedTime"}


@pytest.mark.parametrize("in_batch", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("name", OURS)
def test_what_the_hub_writes_is_not_taken_from_a_submit(stage: Arena, ann: World, name: str, *, in_batch: bool) -> None:
    """[K5] The task stands as if the field had not been there."""
    idle = {"agentName": f"{ann.agent}_idle"}
    stage.hub.ask("POST", "/api/v1/registry/agents", idle, bearer=ann.consumer)
    plain = stage.hub.submit(ann.consumer, idle["agentName"])

    sent: Any = {**idle, name: OURS[name]}
    answered = stage.hub.ask("POST", "/api/v1/tasks", [sent] if in_batch else sent, bearer=ann.consumer).json
    task = (answered[0]["body"] if in_batch else answered)["taskId"]

    rows = [stage.hub.ask("GET", f"/api/v1/tasks/{each}", bearer=ann.consumer).json for each in (plain, task)]
    without = [{key: value for key, value in row.items() if key not in _OWN} for row in rows]
    assert without[0] == without[1]
    assert abs(rows[0]["createdTime"] - rows[1]["createdTime"]) < 60_000


#: One line a door: its address, a good body, the credential, and where in the answer that is looked which must stand.
TAKEN: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("key", "/api/v1/auth/keys", {"id": "key_1", "key": "bk_mine", "revoked": True, "created": 1}, {"owner": "ann"}),
    ("key", "/api/v1/auth/agent/consumer-token", {"userId": "bob", "sessionChannel": "session.1"}, {"userId": "ann"}),
    ("consumer", "/api/v1/auth/session", {"userId": "bob", "sessionChannel": "session.1"}, {"userId": "ann"}),
    ("consumer", "/api/v1/registry/agents", {"owner": "bob", "offline": True, "registeredAt": 1}, {}),
]


@pytest.mark.parametrize("line", TAKEN, ids=lambda line: line[1].removeprefix("/api/v1/"))
def test_what_the_hub_writes_is_not_taken_elsewhere(
    stage: Arena, ann: World, bob: World, line: tuple[str, str, dict[str, Any], dict[str, Any]]
) -> None:
    """[K5] Whose something is and when it was made comes from the token and the ledger."""
    holds, path, more, stands = line
    good = {"name": "five", "agentName": ann.agent}

    answered = stage.hub.ask("POST", path, {**good, **more}, bearer=ann.credentials()[holds])

    assert answered.status in {200, 201}
    assert stands.items() <= answered.json.items()
    assert not {"key_1", "bk_mine", "session.1"} & {str(value) for value in answered.json.values()}
    if path.endswith("agents"):
        row = answered.json["agent"]
        assert (row["offline"], row["registeredAt"] > 1) == (False, True)
        assert stage.hub.ask("GET", f"/api/v1/registry/agents?agentName={ann.agent}", bearer=bob.consumer).status == 404


@pytest.mark.parametrize("name", ["taskId", "epoch", "seq", "protocolVersion", "n"])
def test_an_event_says_nothing_in_the_hubs_name(stage: Arena, ann_key: str, name: str) -> None:
    """[K5] An event that has a field of the hub's is refused, and its task goes on."""
    world = World(stage, ann_key)
    event = {"type": "progress", "progress": 0.5}
    bad = world.report(events=[{"n": 1, "body": {**event, name: 1}}])

    answered, _ = stage.refused("POST", "/api/v1/reports", bad, bearer=world.instance)

    assert answered.status == 400
    good = world.report(events=[{"n": 1, "body": event}])
    assert stage.hub.ask("POST", "/api/v1/reports", good, bearer=world.instance).status == 200


@pytest.mark.parametrize("kind", ["terminal", "cancel_requested", "system", "stream_end", "x"])
def test_an_event_of_the_hubs_kind_is_not_taken_from_a_run(stage: Arena, ann: World, kind: str) -> None:
    """[K5] [K7] A worker cannot end, cancel or restart a task by an event that looks like the hub's."""
    body = {"type": kind, "state": "completed", "status": "restarted", "lastN": 1}
    report = ann.report(events=[{"n": 1, "body": body}])

    answered, _ = stage.refused("POST", "/api/v1/reports", report, bearer=ann.instance)

    assert (answered.status, ann.row()["state"], ann.row()["lastN"]) == (400, "running", 0)


# ------------------------------------------------------------------------------------------------ bombs
def _submit(parts: bytes) -> bytes:
    return b'{"agentName":"%s","requestParts":' + parts + b"}"


#: One line a bomb; `%s` is the agent.
BOMBS: dict[str, bytes] = {
    "deep arrays": _submit(b"[" * 100_000 + b"]" * 100_000),
    "deep objects": _submit(b'[{"a":' * 1 + b'{"a":' * 50_000 + b"1" + b"}" * 50_001 + b"]"),
    "just too deep": _submit(b"[" * 65 + b"]" * 65),
    "unclosed": _submit(b"[" * 500_000),
    "a long integer": _submit(b"[" + b"9" * 100_000 + b"]"),
    "a long fraction": _submit(b"[0." + b"9" * 100_000 + b"]"),
    "a long exponent": _submit(b"[1e" + b"9" * 1000 + b"]"),
    "infinite": _submit(b"[1e999999]"),
    "NaN": _submit(b"[NaN]"),
    "Infinity": _submit(b"[-Infinity]"),
    "doubled keys": b'{"agentName":"%s","agentName":"other"}',
    "doubled keys within": _submit(b'[{"a":1,"a":2}]'),
    "no UTF-8": _submit(b'["\xff\xfe"]'),
    "lone surrogate": _submit(b'["\\ud800"]'),
    "overlong UTF-8": _submit(b'["\xc0\xaf"]'),
    "byte order mark": b'\xef\xbb\xbf{"agentName":"%s"}',
    "UTF-16": '{"agentName":"%s"}'.encode("utf-16"),
    "trailing comma": _submit(b"[1,]"),
    "two documents": b'{"agentName":"%s"}{}',
    "comment": b'/* */{"agentName":"%s"}',
    "NUL": b'{"agentName":"%s"}\0',
    "empty": b"",
    "null": b"null",
    "a number": b"1",
    "a text": b'"x"',
    "infinite beside a file": _submit(b'[1e999999,{"artifactRef":{"kind":"file","fileId":"x"}}]'),
    "gzip, said": gzip.compress(b'{"agentName":"%s"}'),
    "deflate": zlib.compress(b'{"agentName":"%s"}'),
    "tar": b"agent.json" + b"\0" * 502 + b'{"agentName":"%s"}',
    "zip": b"PK\x03\x04" + b"\0" * 26,
    "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "yaml": b"!!python/object/apply:os.system ['true']",
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
    "form": b"agentName=%s",
    "many keys": b'{"agentName":"%s","metadata":[' + b"0," * 400_000 + b"0]}",
    "over the limit": b'{"agentName":"%s","requestSummary":"' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(stage: Arena, ann: World, name: str) -> None:
    """[K9] Nothing is unpacked, nothing runs, nothing is taken in; the next request is served as ever. [F4]"""
    body = BOMBS[name].replace(b"%s", ann.agent.encode())
    headers = {"Content-Encoding": "gzip"} if name == "gzip, said" else {}

    answered, _ = stage.refused("POST", "/api/v1/tasks", body, bearer=ann.consumer, headers=headers)

    assert answered.status in {400, 413}
    assert len(answered.body) < 2000
    assert stage.hub.ask("POST", "/api/v1/tasks", {"agentName": ann.agent}, bearer=ann.consumer).status == 201


#: Schemas in a card that would reach outside or take for ever, if anybody acted on them.
CARDS: dict[str, dict[str, Any]] = {
    "remote reference": {"$ref": "http://127.0.0.1:9/schema.json"},
    "file reference": {"$ref": "file:///etc/passwd"},
    "itself": {"$ref": "#"},
    "dynamic": {"$dynamicRef": "#x"},
    "other dialect": {"$schema": "http://127.0.0.1:9/dialect"},
    "id elsewhere": {"$id": "http://127.0.0.1:9/"},
    "slow expression": {"type": "string", "pattern": "^(a+)+$"},
    "slow names": {"type": "object", "patternProperties": {"^(a+)+$": {}}},
    "slow format": {"type": "string", "format": "regex"},
    "many in one": {"anyOf": [{"anyOf": [{"type": "string"}] * 50}] * 50},
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_makes_the_hub_reach_for_nothing(stage: Arena, ann: World, name: str) -> None:
    """[K9] A schema in a card is kept or refused; nobody fetches what it names, and no input waits for it. [F9]"""
    card = {"io": {"inputs": [{"id": "input", "contentType": "application/json", "schema": CARDS[name]}]}}
    agent = f"{ann.agent}_{list(CARDS).index(name)}"

    taken = stage.hub.ask("POST", "/api/v1/registry/agents", {"agentName": agent, "card": card}, bearer=ann.consumer)

    assert taken.status in {201, 400}
    if taken.status == 201:
        parts = [{"partId": "input", "text": json.dumps("a" * 5000 + "!"), "contentType": "application/json"}]
        body = {"agentName": agent, "requestParts": parts}
        assert stage.hub.ask("POST", "/api/v1/tasks", body, bearer=ann.consumer).status in {201, 400}


# ------------------------------------------------------------------------------------------------ names of files
NAMES = [
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\boot.ini",
    "//host/share",
    "~root/.ssh/id_rsa",
    ".",
    "..",
    "...",
    " ",
    ".hidden",
    "a\0b.txt",
    "a\nb.txt",
    "a\r\nSet-Cookie: x=1",
    'a"; filename="b.exe',
    "a'b",
    "a;b",
    "a%2f..%2fb",
    "a\u202egnp.exe",
    "\u2028",
    "\x1b[2J",
    "CON",
    "nul.txt",
    "a" * 255,
    "é" * 200,
    "\N{PILE OF POO}" * 60,
    "$(reboot)",
    "`id`",
    "a|b",
    "a&b",
    "<script>alert(1)</script>.html",
    "-rf",
    "--help",
    "file:///etc/passwd",
    "http://127.0.0.1/x",
    "a\tb",
    "a/./b",
    "a//b",
    "%00",
    "%0d%0aX: y",
    "\ufeff",
    "a\u0000\u0001\u0002",
    "=cmd|' /C calc'!A0",
    "name.html",
    "name.svg",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[1:40])
def test_a_file_comes_back_to_be_saved_and_nothing_else(stage: Arena, ann: World, name: str) -> None:
    """[K9] [K11] Whatever it is called, it lies under another name, and no header of its answer is the sender's."""
    body = {**ann.upload_body, "fileName": name, "mimeType": "text/html"}
    asked = stage.hub.ask("POST", "/api/v1/files/request-upload", body, bearer=ann.consumer)
    if asked.status == 400:
        return  # not taken at all, which is good too
    offer = asked.json
    before = {path.name for path in stage.folder.iterdir()}
    assert stage.hub.ask("PUT", offer["uploadUrl"], DATA).status == 200

    answered = stage.hub.ask("GET", f"/api/v1/files/{offer['uploadId']}", bearer=ann.consumer)

    assert (answered.status, answered.body) == (200, DATA)
    assert answered.headers["x-content-type-options"] == "nosniff"
    kind, _, said = answered.headers["content-disposition"].partition("; ")
    assert (kind, said[:17]) == ("attachment", "filename*=UTF-8''")
    assert unquote(said[17:]) == name
    assert said.isascii()
    assert not set(' "\r\n;,/\\') & set(said)
    assert "set-cookie" not in {header.lower() for header in answered.headers}
    assert {path.name for path in stage.folder.iterdir()} == before
    assert (stage.folder / "files" / offer["uploadId"]).is_file()


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-" + "9" * 30,
        "bytes=" + "0-1," * 3000,
        "bytes=-0",
        "bytes=5-1",
        "bytes=a-b",
        "bytes=--1",
        "lines=0-1",
        "bytes=0-0,1-1",
        "bytes= 0-1",
        "bytes=\u0660-1".encode().decode("latin-1"),
    ],
)
def test_ranges_that_mean_nothing_cost_nothing(stage: Arena, ann: World, asked: str) -> None:
    """[K9] A range of another form is not heeded or refused; never are more bytes sent than there are."""
    answered = stage.hub.ask("GET", f"/api/v1/files/{ann.file}", bearer=ann.consumer, headers={"Range": asked})

    assert answered.status in {200, 416}
    assert answered.body == DATA or answered.status == 416
