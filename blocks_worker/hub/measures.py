"""The hub's numbers, read when somebody asks: from the ledger, from what its parts count anyway, and as they stand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from blocks_worker.hub.shares import QUOTAS
from blocks_worker.hub.store.survey import survey
from blocks_worker.observability.families import MOST_NAMES, OTHERS, Sample
from blocks_worker.protocol.instances import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from blocks_worker.concurrency import Clock, SteadyClock
    from blocks_worker.hub.instance_service import InstanceService, Seen
    from blocks_worker.hub.network.crowd import Crowd
    from blocks_worker.hub.network.network import LocalNetwork
    from blocks_worker.hub.publications import Publisher
    from blocks_worker.hub.readiness import Readiness
    from blocks_worker.hub.shares import Shares
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store
    from blocks_worker.hub.store.survey import Survey
    from blocks_worker.hub.sweeper import Sweeper

#: To count a large ledger takes long: what was counted is told again for so many times as long as that took.
REUSED = 20

#: What the store counts.
_COUNTED = (
    "retries",
    "dead_letters",
    "lease_lost",
    "leases_taken_back",
    "leases_released",
    "offers_taken_back",
    "fenced_writes",
    "claims_outrun",
    "instances_lost",
    "statements",
)
_ENDS = ("completed", "failed", "canceled")


class Measures:
    """Read everything; one caller at a time, on a thread that may wait for the disk."""

    def __init__(  # noqa: PLR0913 - it reads every part of the hub
        self,
        *,
        store: Store,
        instances: InstanceService,
        sweeper: Sweeper,
        publisher: Publisher,
        network: LocalNetwork,
        crowds: Mapping[str, Crowd],
        readiness: Readiness,
        shares: Shares,
        admits: Callable[[], bool],
        clock: Clock,
        steady: SteadyClock,
    ) -> None:
        self._store = store
        self._instances = instances
        self._sweeper = sweeper
        self._publisher = publisher
        self._network = network
        self._crowds = crowds
        self._readiness = readiness
        self._shares = shares
        self._admits = admits
        self._clock = clock
        self._steady = steady
        self._names: set[str] = set()
        self._counted: Survey | None = None
        self._good_until = 0.0

    def samples(self) -> Iterator[Sample]:
        """Yield all numbers but those of the HTTP requests."""
        conditions = self._readiness.conditions()
        yield _sample("ready", all(one.is_met for one in conditions))
        for one in conditions:
            yield _sample("condition", one.is_met, one.name)
        counted = self._survey()
        yield from self._tasks(counted)
        yield from self._of_instances(self._store.read(self._instances.seen))
        yield from self._counts()
        yield from self._standing(counted)

    def _survey(self) -> Survey:
        begun = self._clock.monotonic()
        if self._counted is None or begun >= self._good_until:
            self._counted = self._store.survey(self._look)
            ended = self._clock.monotonic()
            self._good_until = ended + REUSED * (ended - begun)
        return self._counted

    def _look(self, ledger: Ledger) -> Survey:
        return survey(ledger, self._publisher.published_seq)

    def _tasks(self, counted: Survey) -> Iterator[Sample]:
        yield _sample("tasks_accepted_total", counted.accepted)
        agents = {agent for agent, _ in counted.ended} | set(counted.waiting) | set(counted.running)
        ended: Counter[tuple[str, str]] = Counter()
        waiting, running, oldest = Counter[str](), Counter[str](), dict[str, int]()
        for agent in sorted(agents):
            name = self._named(agent)
            for state in _ENDS:
                ended[name, state] += counted.ended[agent, state]
            waiting[name] += counted.waiting[agent]
            running[name] += counted.running[agent]
            if agent in counted.oldest:
                oldest[name] = min(counted.oldest[agent], oldest.get(name, counted.oldest[agent]))
        for (name, state), count in ended.items():
            yield _sample("tasks_total", count, name, state)
        yield from _by_agent("queue_depth", waiting)
        yield from _by_agent("tasks_running", running)
        now = self._steady.now_ms()
        ages = {name: max(0, now - oldest[name]) / 1000 if name in oldest else 0.0 for name in waiting}
        yield from _by_agent("queue_oldest_seconds", ages)

    def _of_instances(self, seen: list[Seen]) -> Iterator[Sample]:
        states, slots, streams = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        for one in seen:
            name, is_ready = self._named(one.agent), one.state == InstanceState.READY.value
            states[name, one.state] += 1
            slots[name] += one.slots if is_ready else 0
            streams[name] += one.streams
        for (name, state), count in states.items():
            yield _sample("instances", count, name, state)
        yield from _by_agent("slots", slots)
        yield from _by_agent("streams_open", streams)
        # Two processes of one name are there for a moment, when the newer one takes over: it counts.
        for (agent, instance), one in {(one.agent, one.instance_id): one for one in seen[:MOST_NAMES]}.items():
            yield _sample("instance_ready", one.state == InstanceState.READY.value, agent, instance)
            yield _sample("instance_silent_seconds", one.silence, agent, instance)

    def _counts(self) -> Iterator[Sample]:
        for name in _COUNTED:
            yield _sample(f"{name}_total", self._store.counts[name])
        for quota in QUOTAS:
            yield _sample("quota_refused_total", self._shares.refused[quota], quota)
        for door, crowd in self._crowds.items():
            yield _sample("connections_refused_total", crowd.refused, door)
        yield _sample("sweep_failures_total", self._sweeper.failures)
        yield _sample("messages_published_total", self._publisher.counters["messages"])
        yield _sample("messages_too_large_total", self._publisher.counters["too_large"])
        yield Sample("blocks_hub_commit_group_size", (), self._store.groups.read())
        yield Sample("blocks_hub_publish_lag_seconds", (), self._publisher.lag.read())

    def _standing(self, counted: Survey) -> Iterator[Sample]:
        yield _sample("admits_tasks", self._admits())
        yield _sample("writes_waiting", self._store.waiting)
        yield _sample("events_unpublished", counted.unpublished)
        yield _sample("network_connections", len(self._network.connections))

    def _named(self, agent: str) -> str:
        """Return the agent's name as a label: who came first keeps a line of his own."""
        if agent not in self._names and len(self._names) >= MOST_NAMES:
            return OTHERS
        self._names.add(agent)
        return agent


def _by_agent(name: str, values: Mapping[str, float]) -> Iterator[Sample]:
    for agent, value in values.items():
        yield _sample(name, value, agent)


def _sample(name: str, value: float, *labels: str) -> Sample:
    return Sample(f"blocks_hub_{name}", labels, value)
