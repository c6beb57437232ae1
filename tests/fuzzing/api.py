"""Ask a running hub what its own OpenAPI document describes, by schemathesis, with tokens that open the doors."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import schemathesis
from fuzzing.decoding import SLOW, shortest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from jsonschema import Draft202012Validator
from support_probes import Arena, World

if TYPE_CHECKING:
    from pathlib import Path

    from support_hub import Answered, Caller

_FAILED = 500
_BUSY = {503, 507}
#: Examples after which another owner begins anew: what is asked ends agents, tasks and keys.
WORLD = 150
_numbers = itertools.count(1)


@dataclass
class Examined:
    """What came of it."""

    kind: str = "schemathesis"
    calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    faults: list[str] = field(default_factory=list)
    #: Operations that let somebody in: of them the good answers say that the tokens were of use.
    opened: set[str] = field(default_factory=set)


def examine(hub: Caller, folder: Path, *, examples: int, seed: int) -> Examined:
    """Ask every operation so many times, a third of them with ids that are there."""
    document = hub.ask("GET", "/api/v1/openapi.json").json
    asking = _Asking(hub, folder, document, seed)
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        _examined(asking, found.ok(), examples, seed)
    return asking.told


def _examined(asking: _Asking, operation: Any, examples: int, seed: int) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        asking.ask(case)

    ask()


class _Asking:
    """Make a call of each case, and look at what came."""

    def __init__(self, hub: Caller, folder: Path, document: dict[str, Any], seed: int) -> None:
        self._hub = hub
        self._stage = Arena(hub, folder)
        self._document = document
        self._source = random.Random(f"{seed} api")
        self._world = self._fresh()
        self._checks: dict[str, Draft202012Validator] = {}
        self.told = Examined()

    def _fresh(self) -> World:
        return World(self._stage, self._stage.owner(f"examined{next(_numbers)}"))

    def ask(self, case: Any) -> None:
        """Ask once."""
        if self.told.calls % WORLD == WORLD - 1:
            self._world = self._fresh()
        method, template = case.method.upper(), case.path
        operation = self._document["paths"][template][method.lower()]
        case.path_parameters = self._placed(case.path_parameters or {})
        sent = case.as_transport_kwargs(base_url=self._hub.address.url)
        body = sent.get("data") if sent.get("json") is None else json.dumps(self._filled(sent["json"])).encode()
        path = sent["url"].removeprefix(self._hub.address.url) + _query(sent.get("params") or {})
        bearer = self._bearer(operation)
        begun = time.perf_counter()
        try:
            answered = self._hub.ask(method, path, _bytes(body), bearer=bearer)
        except (ValueError, UnicodeError):
            return  # no client can send it
        took = time.perf_counter() - begun
        took = shortest(took, lambda: self._hub.ask(method, path, _bytes(body), bearer=bearer))
        self.told.calls += 1
        self.told.statuses[str(answered.status)] += 1
        self.told.longest = max(self.told.longest, took)
        for wrong in self._wrongs(method, template, operation, answered, took):
            if len(self.told.faults) < 20:
                self.told.faults.append(f"{method} {path[:300]} {_bytes(body)!r:.1500}: {wrong}")

    def _wrongs(
        self, method: str, template: str, operation: dict[str, Any], answered: Answered, took: float
    ) -> list[str]:
        name, wrong = f"{method} {template}", []
        said = operation["responses"].get(str(answered.status))
        if answered.status >= _FAILED and answered.status not in _BUSY:
            wrong.append(f"{answered.status} {answered.body[:300]!r}")
        if said is None and answered.status != 405:
            wrong.append(f"{answered.status} is not documented")
        if took > SLOW:
            wrong.append(f"it took {took:.2f} s")
        if answered.status < 300:
            self.told.opened.add(name)
        return [*wrong, *self._misshapen(name, said, answered)]

    def _misshapen(self, name: str, said: dict[str, Any] | None, answered: Answered) -> list[str]:
        """Return what of a body is not as it is described."""
        if said is None or answered.headers.get("content-type") != "application/json" or "content" not in said:
            return []
        try:
            value = answered.json
        except ValueError:
            return [f"{answered.status} with what is no JSON: {answered.body[:200]!r}"]
        key = f"{name} {answered.status}"
        if key not in self._checks:
            (content,) = said["content"].values()
            whole = {**content["schema"], "components": self._document["components"]}
            self._checks[key] = Draft202012Validator(whole)
        return [f"{answered.status}: {error.message[:300]}" for error in self._checks[key].iter_errors(value)]

    def _bearer(self, operation: dict[str, Any]) -> str | None:
        """Return a token that lets in, or now and then another one."""
        known = {"consumer": self._world.consumer, "instance": self._world.instance, "apiKey": self._world.key}
        if self._source.random() < 0.1:
            return self._source.choice([None, *known.values(), "junk"])
        wanted = [scheme for each in operation["security"] for scheme in each]
        return known[self._source.choice(wanted)] if wanted else None

    def _placed(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parts of an address, a half of the time those of something that is there."""
        world = self._world
        there = {
            "task_id": [world.task, world.failed],
            "file_id": [world.file],
            "token": [world.upload],
            "id": [world.instance_id, world.made["id"]],
            "name": [world.agent],
        }
        return {
            name: self._source.choice(there[name]) if name in there and self._source.random() < 0.5 else value
            for name, value in parameters.items()
        }

    def _filled(self, body: Any) -> Any:
        """Return the body, with ids that are there in place of half of those that were drawn."""
        world = self._world
        there = {
            "taskId": world.task,
            "agentName": world.agent,
            "lease": world.lease,
            "epoch": world.turn["epoch"],
            "uploadId": world.file,
            "streamId": f"{world.task}-1",
            "refreshToken": world.login["refreshToken"],
        }
        if isinstance(body, list):
            return [self._filled(each) for each in body]
        if not isinstance(body, dict):
            return body
        return {
            key: there[key] if key in there and self._source.random() < 0.6 else self._filled(value)
            for key, value in body.items()
        }


def _query(params: dict[str, Any]) -> str:
    from urllib.parse import urlencode

    return f"?{urlencode(params, doseq=True)}" if params else ""


def _bytes(body: Any) -> bytes | None:
    return body if body is None or isinstance(body, bytes) else str(body).encode("utf-8", errors="surrogatepass")
