"""A real hub on real sockets, a few lines to talk to it over bare HTTP, and a clock that a test sets."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import urllib3

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import HubConfig
from blocks_worker.hub.auth.tokens import hashed
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.hub import Hub
from blocks_worker.hub.store import credentials
from blocks_worker.hub.store.store import Store
from blocks_worker.state import LocalHub, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NO_RETRY = urllib3.Retry(False)


class SetClock(Clock):
    """Be the machine's clock, except that a test moves the wall's time by `ahead` seconds."""

    ahead = 0.0

    def wall_ms(self) -> int:
        """Return unix milliseconds, moved."""
        return super().wall_ms() + round(self.ahead * 1000)


@dataclass(frozen=True)
class Answered:
    """Be what came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Return the code of a refusal."""
        return str(self.json["code"])


@dataclass
class Caller:
    """Talk to one hub over HTTP."""

    address: LocalHub
    key: str
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=NO_RETRY))

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send one request; a body that is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.pool.request(method, self.address.url + path, body=data, headers=sent, timeout=20.0)
        return Answered(answer.status, answer.data, answer.headers)

    def connect(self, agent: str = "echo", *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """Connect an instance of an agent and return the answer."""
        request = {"agentName": agent, "instanceId": f"{agent}-1", "incarnation": f"{agent}-life-1", **fields}
        answered = self.ask("POST", "/api/v1/auth/agent/connect", request, bearer=key or self.key)
        assert answered.status == 200, answered
        return dict(answered.json)

    def consumer(self, key: str | None = None) -> dict[str, Any]:
        """Return a consumer's tokens."""
        answered = self.ask("POST", "/api/v1/auth/agent/consumer-token", {"apiKey": key or self.key})
        assert answered.status == 200, answered
        return dict(answered.json)

    def submit(self, token: str, agent: str = "echo", **fields: Any) -> str:
        """Submit a task and return its id."""
        answered = self.ask("POST", "/api/v1/tasks", {"agentName": agent, **fields}, bearer=token)
        assert answered.status in {200, 201}, answered
        return str(answered.json["taskId"])

    def run(self, instance: str, task_id: str, *events: dict[str, Any]) -> None:
        """Claim an offered task as its instance and complete it with these events."""
        offers = self.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["offers"]
        offer = next(offer for offer in offers if offer["taskId"] == task_id)
        turn = {"taskId": task_id, "epoch": offer["epoch"]}
        lease = self.ask("POST", "/api/v1/claims", turn, bearer=instance).json["lease"]
        report = {
            **turn,
            "lease": lease,
            "events": [{"n": n, "body": body} for n, body in enumerate(events, start=1)],
            "outcome": {"state": "completed", "lastN": len(events), "digest": "d" * 64},
        }
        answered = self.ask("POST", "/api/v1/reports", report, bearer=instance)
        assert answered.status == 200, answered


class BareRun:
    """One run of one task, a report at a time."""

    def __init__(self, hub: Caller, instance: str, task_id: str) -> None:
        self._hub = hub
        self._instance = instance
        self._n = 0
        offers = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["offers"]
        offer = next(offer for offer in offers if offer["taskId"] == task_id)
        self._turn = {"taskId": task_id, "epoch": offer["epoch"]}
        self._turn["lease"] = hub.ask("POST", "/api/v1/claims", self._turn, bearer=instance).json["lease"]

    def say(self, *events: dict[str, Any]) -> None:
        """Report events."""
        self._report([{"n": self._n + n, "body": body} for n, body in enumerate(events, 1)])

    def end(self, state: str = "completed", **fields: Any) -> None:
        """End the task."""
        self._report([], outcome={"state": state, "lastN": self._n, "digest": "d" * 64, **fields})

    def release(self) -> None:
        """Give the task back."""
        self._report([], release=True)

    def _report(self, events: list[dict[str, Any]], **more: Any) -> None:
        self._n += len(events)
        report = {**self._turn, "events": events, **more}
        assert self._hub.ask("POST", "/api/v1/reports", report, bearer=self._instance).status == 200


@contextmanager
def running_hub(folder: Path, *, clock: Clock | None = None, **settings: Any) -> Iterator[Caller]:
    """Run a hub on a folder and give a caller of it."""
    # The reserve of a real hub is larger than all else that a test leaves behind.
    hub = Hub(HubConfig(**{"state_dir": folder, "port": 0, "reserve_bytes": 1 << 20, **settings}), clock=clock)
    caller = Caller(hub.start(), StateFolder(folder).local_key())
    try:
        yield caller
    finally:
        caller.pool.clear()
        hub.stop(Deadline(20))
        assert not hub.is_alive()


def let_in(folder: Path, owner: str) -> str:
    """Give an owner an API key in the ledger of a hub that is not running."""
    key = f"bk_{Entropy().token()}"
    store = Store(folder / DATABASE, clock=Clock())
    store.open()
    try:
        store.write(
            lambda ledger: credentials.add_key(ledger.connection, hashed(key), owner=owner, name="test", now=0)
        ).result(30)
    finally:
        store.close(Deadline(20))
    return key
