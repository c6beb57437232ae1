"""[K12] Secrets: which are taken at a start, and that none is ever seen where it does not belong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub
from support_probes import Arena, World

from blocks_worker.config import HubConfig
from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.audit import ACTS, REFUSALS
from blocks_worker.hub.auth.signing import read_keys
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.hub import Hub
from blocks_worker.observability.logs import setup_logging
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = "0123456789abcdef" * 4
SECRETS = ["hub-secret", "local-key", "hub-signing-keys.json"]


def _written(text: str, mode: int = 0o600) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    return write


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" * 40)
    path.chmod(0o600)


#: One line a secret file as it should not be, and what the refusal says.
SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_written(""), "delete it"),
    "blank": (_written(" \n"), "delete it"),
    "short": (_written("secret"), "delete it"),
    "almost long enough": (_written("0123456789abcdef0123456789abcde"), "delete it"),
    "all the same": (_written("a" * 64), "delete it"),
    "all zero": (_written("0" * 64), "delete it"),
    "two characters": (_written("01" * 40), "delete it"),
    "a word again and again": (_written("changeme" * 8), "delete it"),
    "readable by all": (_written(GOOD, 0o644), "chmod 600"),
    "readable by the group": (_written(GOOD, 0o640), "chmod 600"),
    "writable by all": (_written(GOOD, 0o602), "chmod 600"),
    "executable by others": (_written(GOOD, 0o601), "chmod 600"),
    "no text": (_binary, "state folder"),
    "a folder": (lambda path: path.mkdir(mode=0o700), "state folder"),
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("fault", SPOILT)
def test_a_secret_that_is_none_lets_no_hub_start(tmp_path: Path, name: str, fault: str) -> None:
    """[K12] The refusal names the file and what to do; nothing listens, and the secret is not repeated."""
    write, told = SPOILT[fault]
    tmp_path.chmod(0o700)
    write(tmp_path / name)

    with pytest.raises(ConfigurationError) as refused:
        Hub(HubConfig(state_dir=tmp_path, port=0)).start()

    assert told in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert GOOD not in str(refused.value)
    assert StateFolder(tmp_path).discovered() is None


def test_what_is_no_hexadecimal_number_is_no_secret_of_a_hub(tmp_path: Path) -> None:
    """[K12] A secret in another form is told as any other that cannot be used, and is no crash."""
    _written("not hexadecimal, but long enough to be one")(tmp_path / "hub-secret")

    with pytest.raises(ConfigurationError, match="hub-secret"):
        Hub(HubConfig(state_dir=tmp_path, port=0)).start()


def test_secrets_that_are_good_are_taken_and_made(tmp_path: Path) -> None:
    """A hub makes its secrets itself, each its own, private and random; files that are so are used as they are."""
    with running_hub(tmp_path / "made") as first:
        assert first.ask("GET", "/livez").status == 200
    texts = [(tmp_path / "made" / name).read_text(encoding="utf-8") for name in SECRETS]
    with running_hub(tmp_path / "other"):
        others = [(tmp_path / "other" / name).read_text(encoding="utf-8") for name in SECRETS]
    for name, text in zip(SECRETS, (GOOD, GOOD, texts[-1]), strict=True):
        path = tmp_path / "given" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _written(text)(path)

    assert len({*texts, *others}) == 2 * len(SECRETS)
    with running_hub(tmp_path / "given") as given:
        assert given.consumer(GOOD)["userId"] == "local"
    assert (tmp_path / "given" / SECRETS[-1]).read_text(encoding="utf-8") == texts[-1]


def test_everything_in_the_state_folder_is_its_users_own(stage: Arena, ann: World) -> None:
    """[K12] Whatever a hub writes, no other user of the machine reads: files 0600, folders 0700."""
    stage.refused("GET", "/api/v1/tasks", bearer="x")
    found = [stage.folder, *stage.folder.rglob("*")]

    assert {path.name for path in found} >= {ACTS, REFUSALS, DATABASE, *SECRETS, ann.file}
    open_to_others = [path for path in found if path.stat().st_mode & 0o077 and path != stage.folder]
    assert [path.name for path in open_to_others] == []


# ------------------------------------------------------------------------------------------------ canaries
def _secrets(stage: Arena, world: World) -> dict[str, str]:
    """Return every secret of one world and of its hub, by where it comes from."""
    held = {kind: text for kind, text in world.credentials().items() if text and kind != "key id"}
    folder = StateFolder(stage.folder)
    return {
        **held,
        "made key": world.made["key"],
        "hub secret": folder.text("hub-secret", str),
        "local key": folder.local_key(),
        "signing key": read_keys(folder)[0].secret.hex(),
        "agent's stream token": world.streams["streams"][0]["agentToken"],
    }


PAYLOAD = "canary-of-a-payload-7f3a"
NOTE = "canary-of-a-reason-91bc"


def _every_call(stage: Arena, world: World) -> list[bytes]:
    """Make good and bad calls of every kind with every secret in every place; return the bodies of refusals."""
    bodies = []
    parts = [{"partId": "input", "text": PAYLOAD}]
    stage.hub.ask("POST", "/api/v1/tasks", {"agentName": world.agent, "requestParts": parts}, bearer=world.consumer)
    stage.hub.ask("POST", f"/api/v1/tasks/{world.task}/cancel", {"reason": NOTE}, bearer=world.consumer)
    event = {"type": "progress", "progress": 0.1, "message": PAYLOAD}
    stage.hub.ask("POST", "/api/v1/reports", world.report(events=[{"n": 1, "body": event}]), bearer=world.instance)
    for secret in _secrets(stage, world).values():
        for path, body in (
            ("/api/v1/tasks", {"agentName": secret[:60], "requestParts": parts}),
            ("/api/v1/reports", world.report(lease=secret)),
            ("/api/v1/auth/agent/refresh", {"refreshToken": secret}),
            ("/api/v1/auth/agent/consumer-token", {"apiKey": secret}),
            ("/api/v1/auth/session", {"accessToken": secret}),
            (f"/api/v1/files/uploads/{secret[:200]}x", {}),
        ):
            for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}, {"Cookie": f"a={secret}"}):
                answered = stage.hub.ask("POST", path, body, headers=headers)
                # A name that is wrong is said again to him who sent it, and to nobody else.
                if answered.status >= 400 and path != "/api/v1/tasks":
                    bodies.append(answered.body)
        bodies.append(stage.hub.ask("PUT", f"/api/v1/files/uploads/{secret[:200]}x", b"x").body)
        bodies.append(stage.network("publish", "session.x", secret, "canary").body)
        bodies.append(stage.raw(f"GET /{secret} HTTP/1.1\r\nX: {secret}\r\nConnection: close\r\n\r\n".encode()))
    return bodies


def test_no_secret_is_seen_where_it_does_not_belong(tmp_path: Path) -> None:
    """[K12] [G8] Through every kind of call at DEBUG: not in logs, audit, error bodies, reprs or ledger."""
    said = StringIO()
    setup_logging("debug", "json", said)
    with running_hub(tmp_path / "canaries") as caller:
        stage = Arena(caller, tmp_path / "canaries")
        world = World(stage, stage.owner("cleo"))
        secrets = _secrets(stage, world)
        bodies = _every_call(stage, world)
        config = repr(HubConfig(state_dir=tmp_path, port=0))
    setup_logging("error", "text", StringIO())
    audit = b"".join(path.read_bytes() for path in stage.folder.glob("audit*"))
    ledger = b"".join(path.read_bytes() for path in stage.folder.glob("hub.sqlite3*"))

    assert (len(audit) > 5000, len(bodies) > 100, len(ledger) > 5000) == (True, True, True)
    assert said.getvalue()
    for kind, secret in secrets.items():
        core = secret[-40:-8].encode()
        assert core not in said.getvalue().encode(), f"{kind} in the log"
        assert core not in audit, f"{kind} in the audit"
        assert core not in b"".join(bodies), f"{kind} in an error body"
        assert core not in config.encode(), f"{kind} in a repr"
        assert core not in ledger, f"{kind} in the ledger"
    for text in (PAYLOAD, NOTE):
        assert text.encode() not in audit
        assert text not in said.getvalue()
    assert PAYLOAD.encode() in ledger, "what is to be there is found by this search"


def test_a_process_shows_no_secret(tmp_path: Path) -> None:
    """[K12] Neither arguments nor environment of a running hub tell a secret, nor does anything it prints."""
    program = str(Path(sys.executable).with_name("blocks-hub"))
    with (tmp_path / "out").open("wb") as out:
        command = [program, "--state-dir", str(tmp_path / "s"), "--port", "0", "--log-level", "debug"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        folder = StateFolder(tmp_path / "s")
        wait_until(folder.discovered, timeout=90, what="the hub answers")
        texts = [folder.text("hub-secret", str), folder.local_key(), read_keys(folder)[0].secret.hex()]
        shown = b"".join(Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm"))
    finally:
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait(30)

    assert code == 0
    shown += (tmp_path / "out").read_bytes()
    assert b"blocks-hub" in shown
    for text in texts:
        assert text[5:30].encode() not in shown


def test_a_fault_of_the_hub_tells_its_caller_no_more_than_a_number(tmp_path: Path) -> None:
    """[K12] Even when the hub fails its answer has no trace, no path and no statement."""
    said = StringIO()
    setup_logging("debug", "json", said)
    with running_hub(tmp_path) as caller:
        token = caller.consumer()["accessToken"]
        with sqlite3.connect(tmp_path / DATABASE) as other:
            other.execute("DROP TABLE agent")
        answered = caller.ask("GET", "/api/v1/registry/agents", bearer=token)
    setup_logging("error", "text", StringIO())

    assert answered.status in {500, 503}
    for word in ("Traceback", "sqlite", "SELECT", "agent", str(tmp_path), ".py"):
        assert word not in answered.body.decode()


# ------------------------------------------------------------------------------------------------ acts
def _record(stage: Arena, event: str) -> dict[str, Any]:
    return next(line for line in stage.acts.new() if line["event"] == event)


def test_every_act_leaves_its_record(stage: Arena) -> None:
    """Who did what to what stands in the audit once it is done, with his key's id and never the key."""
    stage.acts.new()
    key = stage.owner("dina")
    created = _record(stage, "key_created")
    world = World(stage, key)
    events = {line["event"]: line for line in stage.acts.new()}
    own = {"by": "dina", "key": created["created"]}

    assert created | {"by": "local", "owner": "dina"} == created
    assert {"instance_connected", "tokens_issued", "task_grant_issued", "stream_grant_issued"} <= set(events)
    assert all(own.items() <= line.items() for line in events.values() if line["event"] != "key_created")
    ask, consumer = stage.hub.ask, world.consumer
    acts: list[tuple[str, str, str, Any, str, dict[str, Any]]] = [
        ("POST", f"tasks/{world.task}/pause", "consumer", {"pauseSeq": 0}, "task_paused", {"task": world.task}),
        ("POST", f"tasks/{world.task}/resume", "consumer", {"pauseSeq": 1}, "task_resumed", {"task": world.task}),
        ("POST", f"tasks/{world.task}/cancel", "consumer", {}, "task_cancelled", {"task": world.task}),
        ("POST", f"tasks/{world.failed}/retry", "consumer", {}, "task_sent_again", {"task": world.failed}),
        ("POST", "auth/session", "consumer", {}, "session_issued", {}),
        ("POST", "auth/agent/refresh", "key", {"refreshToken": world.login["refreshToken"]}, "refresh_token_used", {}),
        (
            "POST",
            "auth/agent/refresh",
            "key",
            {"refreshToken": world.login["refreshToken"]},
            "refresh_token_repeated",
            {"kind": "consumer"},
        ),
        ("POST", "registry/agents", "consumer", {"agentName": f"{world.agent}_r"}, "agent_registered", {}),
        ("DELETE", f"registry/agents?agentName={world.agent}_r", "consumer", None, "agent_removed", {}),
        ("POST", f"registry/instances/{world.instance_id}/drain", "consumer", {}, "instance_drained", {}),
        ("POST", f"registry/agents/{world.agent}/offline", "consumer", {}, "agent_offline", {"agent": world.agent}),
        ("POST", f"registry/agents/{world.agent}/online", "consumer", {}, "agent_online", {"agent": world.agent}),
        ("DELETE", f"auth/keys/{world.made['id']}", "key", None, "key_revoked", {"revoked": world.made["id"]}),
    ]
    for method, path, holds, body, event, told in acts:
        stage.acts.new()
        ask(method, f"/api/v1/{path}", body, bearer=world.credentials()[holds])
        record = _record(stage, event)
        assert {"by": "dina", **told}.items() <= record.items()
    assert ask("GET", "/api/v1/tasks", bearer=consumer).status == 200


def test_what_failed_leaves_no_act(stage: Arena, ann: World, bob: World) -> None:
    """An act that was refused is a refusal and nothing else."""
    stage.acts.new()
    stage.refused("POST", f"/api/v1/tasks/{ann.task}/cancel", {}, bearer=bob.consumer)
    stage.refused("POST", "/api/v1/auth/keys", {"name": "x", "owner": "ann"}, bearer=bob.key)
    stage.refused("POST", "/api/v1/auth/agent/refresh", {"refreshToken": "rt_x"}, bearer=bob.key)

    assert stage.acts.new() == []


def test_a_hub_that_starts_says_how(tmp_path: Path) -> None:
    """Whether others reach it and whether it can be made to fail stands in the audit of each start."""
    for _ in range(2):
        with running_hub(tmp_path):
            pass
    lines = [json.loads(line) for line in (tmp_path / ACTS).read_text(encoding="utf-8").splitlines()]
    started = [line for line in lines if line["event"] == "hub_started"]

    told = {"host": "127.0.0.1", "public": False, "tls": False, "testing": False}
    assert [told.items() <= line.items() for line in started] == [True, True]
