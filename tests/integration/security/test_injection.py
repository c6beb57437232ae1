"""[K11] Text that is meant to be read as something else: SQL, markup, terminal sequences, lines of a log or a head."""

from __future__ import annotations

import json
import logging
from io import StringIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from support_probes import World

from blocks_worker.observability.logs import setup_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena

#: One line a payload.
TEXTS = [
    "' OR '1'='1",
    "'; DROP TABLE task; --",
    '" OR ""="',
    "x' UNION SELECT hash FROM api_key --",
    "%' OR 1=1 --",
    "%",
    "_",
    "*",
    "\\",
    "x\0y",
    "x\r\nSet-Cookie: a=b",
    'x\n{"event": "key_created", "by": "root"}',
    "\x1b]0;owned\x07\x1b[2J",
    "\u202etxt.exe",
    "\u2028alert(1)",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "${jndi:ldap://127.0.0.1/a}",
    "%(token)s %s %n {0.__class__}",
    "../../../../etc/passwd",
    "|id;`id`$(id)",
    "a" * 5000,
]


def _query(name: str) -> Callable[[str], tuple[str, str, Any]]:
    return lambda text: ("GET", f"/api/v1/{name}={quote(text, safe='')}", None)


def _path(path: str, method: str = "GET", body: Any = None) -> Callable[[str], tuple[str, str, Any]]:
    return lambda text: (method, f"/api/v1/{path.format(quote(text, safe=''))}", body)


def _body(path: str, name: str, **more: Any) -> Callable[[str], tuple[str, str, Any]]:
    return lambda text: ("POST", f"/api/v1/{path}", {**more, name: text})


#: One line a field of a request that is a text.
FIELDS: dict[str, Callable[[str], tuple[str, str, Any]]] = {
    "state": _query("tasks?state"),
    "agent": _query("tasks?agent"),
    "cursor": _query("tasks?cursor"),
    "limit": _query("tasks?limit"),
    "agentName": _query("registry/agents?agentName"),
    "tag": _query("registry/agents?tag"),
    "listing": _query("registry/agents?listing"),
    "agents' cursor": _query("registry/agents?cursor"),
    "task": _path("tasks/{}"),
    "events of a task": _path("tasks/{}/events"),
    "file": _path("files/{}"),
    "agent offline": _path("registry/agents/{}/offline", "POST", {}),
    "instance": _path("registry/instances/{}/drain", "POST", {}),
    "submitted agent": _body("tasks", "agentName"),
    "submitted id": _body("tasks", "taskId", agentName="nobody"),
    "submitted parent": _body("tasks", "parentTaskId", agentName="nobody"),
    "followed task": _body("events", "taskId"),
    "upload": _body("files/confirm-upload", "uploadId"),
    "registered name": _body("registry/agents", "agentName"),
    "read token": _body("auth/task-read-token", "taskId"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_text_in_any_field_is_text(stage: Arena, ann: World, bob: World, field: str) -> None:
    """[K11] Whatever stands in it, it finds, breaks and shows nothing, and the answer is JSON. [G13]"""
    before = ann.row()
    for text in TEXTS:
        method, path, body = FIELDS[field](text)
        answered = stage.hub.ask(method, path, body, bearer=bob.consumer)
        assert answered.status < 500, (text, answered)
        assert answered.status >= 400 or method == "GET" or text == "_", (text, answered)
        assert answered.headers["content-type"] == "application/json"
        assert len(answered.body) < 20_000
        assert not {"set-cookie", "a"} & {name.lower() for name in answered.headers}
        assert isinstance(answered.json, dict)
        for secret in (ann.task, ann.agent, ann.made["id"], "Traceback", "sqlite", "SELECT hash FROM api_key --'"):
            assert secret not in answered.body.decode()
    assert ann.row() == before


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[1:40])
def test_text_that_is_kept_comes_back_as_it_was(stage: Arena, ann_key: str, text: str) -> None:
    """[K11] A name, reason or key that is kept is the very text, for who may read it, and stands for nothing."""
    world = World(stage, ann_key)
    name = text[:60]
    made = stage.hub.ask("POST", "/api/v1/auth/keys", {"name": name}, bearer=world.key)
    key = {"agentName": world.agent, "idempotencyKey": text[:200]}
    tasks = [stage.hub.ask("POST", "/api/v1/tasks", key, bearer=world.consumer).json["taskId"] for _ in range(2)]
    stage.hub.ask("POST", f"/api/v1/tasks/{tasks[0]}/cancel", {"reason": text[:1000]}, bearer=world.consumer)

    assert made.json["name"] == name
    assert name in [row["name"] for row in stage.hub.ask("GET", "/api/v1/auth/keys", bearer=world.key).json["keys"]]
    assert tasks[0] == tasks[1]
    assert stage.hub.ask("GET", f"/api/v1/tasks/{tasks[0]}", bearer=world.consumer).json["reason"] == text[:1000]
    stage.hub.ask("DELETE", f"/api/v1/auth/keys/{made.json['id']}", bearer=world.key)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_no_text_writes_a_line_of_its_own(stage: Arena, bob: World, fmt: str) -> None:
    """[K11] In the log at DEBUG and in the audit each record stays a line without control characters."""
    said = StringIO()
    setup_logging("debug", fmt, said)
    stage.refusals.new()
    stage.acts.new()
    for field in FIELDS.values():
        for text in TEXTS:
            method, path, body = field(text)
            stage.hub.ask(method, path, body, bearer=bob.consumer)
    logging.getLogger("blocks_worker.hub").warning("request_failed", extra={"route": TEXTS[11], "x": TEXTS[12]})

    audit = [json.dumps(line, ensure_ascii=False) for line in (*stage.refusals.new(), *stage.acts.new())]
    assert len(audit) > len(TEXTS)
    for text in (*said.getvalue().splitlines(), *audit):
        assert not {"\x1b", "\x07", "\0", "\r", "\u2028", "\u202e"} & set(text)
    assert '"event": "key_created", "by": "root"' not in "".join(audit).replace('\\"', "'")
    lines = said.getvalue().splitlines()
    assert lines
    if fmt == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
