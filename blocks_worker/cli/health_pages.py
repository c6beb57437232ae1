"""What the health port of `blocks-run` says: whether the process lives, whether its agents serve, and their numbers."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from blocks_worker import __version__
from blocks_worker.errors import ConfigurationError
from blocks_worker.observability.conditions import Condition, as_json
from blocks_worker.observability.families import WORKER, Sample
from blocks_worker.observability.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blocks_worker.runtime.instance import AgentInstance

    class Watched(Protocol):
        """One agent of the process."""

        agent_name: str
        instance: AgentInstance | None


_OK, _NOT_IMPLEMENTED, _UNAVAILABLE = 200, 501, 503

_UNMET = Condition("registered", is_met=False, says="no hub was reached yet")


class Page(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = "application/json"

    @classmethod
    def of(cls, status: int, body: object) -> Page:
        """Return a page of JSON."""
        return cls(status, json.dumps(body).encode())

    @classmethod
    def sentence(cls, status: int, text: str) -> Page:
        """Return a page that says one thing."""
        return cls.of(status, {"message": text})


class HealthPages:
    """Tell of the agents of a process. Safe from any thread; nothing here waits for an agent."""

    #: Every address there is.
    PATHS: ClassVar = ("/livez", "/healthz", "/readyz", "/worker", "/metrics")

    def __init__(self, agents: Sequence[Watched]) -> None:
        self._agents = agents
        self._metrics = Metrics(WORKER, self._samples)
        alive = self._alive
        self._pages: dict[str, Callable[[], Page]] = dict(
            zip(self.PATHS, (alive, alive, self._ready, self._worker, self._numbers), strict=True)
        )

    def page(self, path: str) -> Page | None:
        """Return the page of an address; None where there is none."""
        make = self._pages.get(path)
        return None if make is None else make()

    def _alive(self) -> Page:
        return Page.of(_OK, {"status": "ok"})

    def _ready(self) -> Page:
        """Tell whether every agent serves that is wanted, with one entry a condition."""
        told = []
        for watched in self._agents:
            conditions = _conditions(watched)
            state = {"ready": all(one.is_met for one in conditions), "askedToDrain": _was_asked_to_drain(watched)}
            told.append({**_named(watched), **state, "conditions": as_json(conditions)})
        wanted = [each for each in told if not each["askedToDrain"]]
        is_ready = bool(wanted) and all(each["ready"] for each in wanted)
        word = "ready" if is_ready else "not ready"
        return Page.of(_OK if is_ready else _UNAVAILABLE, {"status": word, "agents": told})

    def _worker(self) -> Page:
        process = {"pid": os.getpid(), "version": __version__, "python": platform.python_version()}
        return Page.of(_OK, {**process, "agents": [_shown(watched) for watched in self._agents]})

    def _numbers(self) -> Page:
        try:
            return Page(_OK, self._metrics.text(), CONTENT_TYPE)
        except ConfigurationError as error:
            return Page.sentence(_NOT_IMPLEMENTED, str(error))

    def _samples(self) -> Iterator[Sample]:
        for watched in self._agents:
            if watched.instance is not None:
                yield from watched.instance.insight.samples()


def _conditions(watched: Watched) -> list[Condition]:
    return [_UNMET] if watched.instance is None else watched.instance.insight.conditions()


def _was_asked_to_drain(watched: Watched) -> bool:
    return watched.instance is not None and watched.instance.insight.was_asked_to_drain


def _named(watched: Watched) -> dict[str, Any]:
    instance = watched.instance
    return {"agent": watched.agent_name, "instance": None if instance is None else instance.instance_id}


def _shown(watched: Watched) -> dict[str, Any]:
    """Return what `/worker` tells of one agent."""
    instance = watched.instance
    if instance is None:
        return {**_named(watched), "state": "starting"}
    return {
        **_named(watched),
        "state": instance.state,
        "running": len(instance.active_tasks),
        "slots": instance.insight.slots,
        "hub": instance.hub_url,
        "runsHub": instance.runs_hub,
    }
