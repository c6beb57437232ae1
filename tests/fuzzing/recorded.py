"""A reference run of everything that a hub is asked, written down call by call, with the tokens of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from support_hub import Answered, Caller
from support_probes import DATA, Arena, World

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """One call as it was made."""

    method: str
    path: str
    body: bytes | None
    headers: tuple[tuple[str, str], ...]
    #: It went to the local network.
    network: bool = False

    def raw(self, body: bytes | None, host: str, *, path: str | None = None, more: bytes = b"") -> bytes:
        """Return the bytes of this call, with another body or address where one is given."""
        head = f"{self.method} {self.path if path is None else path} HTTP/1.1\r\nHost: {host}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        return (head + lines + length).encode("latin-1", errors="replace") + more + b"\r\n" + (body or b"")


@dataclass
class Recorder(Caller):
    """Write down each call that is made."""

    calls: list[Recorded] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Make it, and write it down."""
        sent = dict(headers or {})
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.calls.append(Recorded(method, path, data, tuple(sent.items())))
        return super().ask(method, path, body, bearer=bearer, headers=headers)


def record(hub: Caller, folder: Path) -> tuple[list[Recorded], World]:
    """Have one owner do everything once; return the calls, and what he has now."""
    recorder = Recorder(hub.address, hub.key, hub.pool)
    stage = Arena(recorder, folder)
    world = World(stage, stage.owner(f"owner{len(list(folder.iterdir()))}"))
    for method, path, body, holds in _rest(world):
        recorder.ask(method, path, body, bearer=holds)
    return [*recorder.calls, *_network(hub, world)], world


def _rest(world: World) -> list[tuple[str, str, Any, str | None]]:
    """Return what a world was not made with; what ends something comes last."""
    task, agent = world.task, world.agent
    event = {"n": 1, "body": {"type": "progress", "progress": 0.5}}
    late = {"incarnation": f"{agent}-life-1", "report": world.report(release=True)}
    output = {"role": "provider-output", "fileSize": len(DATA), "fileName": "o", "taskId": task}
    batch = [{"agentName": agent, "requestParts": [{"partId": "p", "text": "x"}], "delay": 9} for _ in range(2)]
    consumer, instance, key = world.consumer, world.instance, world.key
    return [
        ("GET", "/livez", None, None),
        ("GET", "/readyz", None, None),
        ("GET", "/metrics", None, None),
        ("GET", "/api/v1/cdm", None, None),
        ("GET", "/api/v1/openapi.json", None, None),
        ("GET", f"/api/v1/registry/agents?agentName={agent}", None, consumer),
        ("GET", "/api/v1/registry/agents?include=full&limit=5&cursor=a&tag=x", None, consumer),
        (
            "POST",
            "/api/v1/registry/agents",
            {"agentName": f"{agent}_x", "card": {"identity": {"description": "d"}}},
            consumer,
        ),
        ("GET", "/api/v1/tasks?state=running&limit=2&dead=any&since=1&until=99", None, consumer),
        ("GET", f"/api/v1/tasks/{task}/events?after=0", None, consumer),
        ("POST", "/api/v1/events", [{"taskId": task, "after": 0, "listen": "free"}, {"taskId": "x"}], consumer),
        ("POST", "/api/v1/tasks", batch, consumer),
        ("POST", f"/api/v1/tasks/{task}/pause", {"pauseSeq": 0}, consumer),
        ("POST", f"/api/v1/tasks/{task}/resume", {"pauseSeq": 1}, consumer),
        ("POST", f"/api/v1/tasks/{world.failed}/retry", {"idempotencyKey": "again"}, consumer),
        ("POST", "/api/v1/reports", [world.report(events=[event])], instance),
        ("POST", "/api/v1/heartbeats", {"held": [{"taskId": task, "epoch": world.turn["epoch"]}], "free": 1}, instance),
        ("POST", "/api/v1/claims", [{"taskId": task, "epoch": 9, "nack": "no"}], instance),
        ("POST", "/api/v1/reports/late", [late], key),
        ("POST", "/api/v1/files/request-upload", output, instance),
        ("POST", "/api/v1/files/confirm-upload", {"uploadId": world.file}, consumer),
        ("GET", f"/api/v1/files/{world.file}", None, consumer),
        ("GET", f"/api/v1/files/uploads/{world.upload}", None, None),
        ("PUT", f"/api/v1/files/uploads/{world.upload}", DATA, None),
        ("POST", "/api/v1/auth/session", {"accessToken": consumer}, consumer),
        ("POST", "/api/v1/auth/agent/refresh", {"refreshToken": world.login["refreshToken"]}, key),
        ("GET", "/api/v1/auth/keys", None, key),
        ("POST", "/api/v1/auth/signing-keys", {}, key),
        ("POST", f"/api/v1/registry/instances/{world.instance_id}/drain", {"reason": "r"}, consumer),
        ("POST", f"/api/v1/registry/agents/{agent}_x/offline", None, consumer),
        ("POST", f"/api/v1/registry/agents/{agent}_x/online", None, consumer),
        ("DELETE", f"/api/v1/registry/agents?agentName={agent}_x", None, consumer),
        ("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "r"}, consumer),
        ("DELETE", f"/api/v1/tasks/{world.failed}", None, consumer),
        ("DELETE", f"/api/v1/auth/keys/{world.made['id']}", None, key),
    ]


def _network(hub: Caller, world: World) -> list[Recorded]:
    """Return calls of the local network with grants that are good for them."""
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]
    publish, subscribe = keys["publishKey"], keys["subscribeKey"]
    channel, grant = world.login["sessionChannel"], quote(world.login["pamToken"], safe="")
    stream = world.streams["streams"][0]["channel"]
    other = quote(world.streams["token"], safe="")
    who, him = f"uuid={world.session}&auth={grant}", f"uuid={world.instance_id}&auth={other}"
    paths = [
        f"/publish/{publish}/{subscribe}/0/{stream}/0/%7B%22a%22%3A1%7D?{him}&meta=%7B%7D&ttl=1",
        f"/v2/subscribe/{subscribe}/{channel}/0?{who}&tt=0&heartbeat=20&state=%7B%7D",
        f"/v3/history/sub-key/{subscribe}/channel/{channel}?{who}&max=25&start=1&end=9",
        f"/v3/history/sub-key/{subscribe}/message-counts/{channel}?{who}&timetoken=1",
        f"/v2/presence/sub-key/{subscribe}/channel/{channel}?{who}&state=1",
        f"/v2/presence/sub-key/{subscribe}/channel/{channel}/heartbeat?{who}",
        f"/v2/presence/sub-key/{subscribe}/channel/{channel}/leave?{who}",
        "/time/0",
    ]
    posted = Recorded("POST", f"/publish/{publish}/{subscribe}/0/{stream}/0?{him}", b'{"a":[1]}', (), network=True)
    return [*(Recorded("GET", path, None, (), network=True) for path in paths), posted]
