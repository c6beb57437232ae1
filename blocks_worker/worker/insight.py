"""How an instance does, for whoever looks from outside: its conditions and numbers, read when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocks_worker.observability.conditions import Condition
from blocks_worker.observability.families import Sample
from blocks_worker.worker.leases import beat_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.drain import Drain
    from blocks_worker.worker.engine import Engine
    from blocks_worker.worker.presence import Presence
    from blocks_worker.worker.settings import WorkerSettings

    class Stands(Protocol):
        """Where the worker is in its life."""

        @property
        def state(self) -> str:
            """Starting, ready, full, draining, stopped or failed."""

        @property
        def error(self) -> BaseException | None:
            """What ended it for good."""

        @property
        def was_asked_to_drain(self) -> bool:
            """Whether its hub wants it to end."""


#: Intervals without an answer to a heartbeat after which the hub counts as away.
HEARD_LATELY = 3

_SERVING = frozenset({"starting", "ready", "full"})
_ENDED = frozenset({"stopped", "failed"})

#: Counters of the worker by name: their family, and the value of its last label.
_COUNTED: dict[str, tuple[str, ...]] = {
    "leases_lost": ("lease_lost",),
    "late_results": ("late_results",),
    "runs_expired": ("runs_timed_out",),
    "runs_forced": ("runs_forced",),
    "threads_abandoned": ("given_up", "thread"),
    "coroutines_abandoned": ("given_up", "coroutine"),
    "threads_hung": ("given_up", "slot"),
    "offers_ignored_duplicate": ("duplicates_dropped", "offer"),
    "offers_ignored_cancelled": ("offers_refused", "cancelled"),
    "messages_refused_replay": ("duplicates_dropped", "replay"),
    "messages_failed": ("messages_failed",),
    "gaps_repaired": ("gaps_repaired",),
    "gaps_open": ("gaps_open",),
    "transport_rebuilds": ("transport_rebuilds",),
    "heartbeats_starved": ("heartbeats_starved",),
    "claims_refused": ("claims_lost", "refused"),
    "claims_failed": ("claims_lost", "no_answer"),
    "claims_too_late": ("claims_lost", "too_late"),
    "offers_lost": ("claims_lost", "withdrawn"),
    "reports_repeated": ("reports_repeated",),
    "reports_failed": ("reports_failed",),
    "nacks_lost": ("nacks_lost",),
    "statuses_dropped": ("statuses_dropped",),
    "process_starved": ("process_starved",),
    "threads_leaked": ("threads_leaked",),
}
#: The same for counters whose names end in the value of the label.
_BEGINNING = {
    "tasks_": "runs",
    "offers_refused_": "offers_refused",
    "offers_ignored_": "offers_refused",
    "messages_refused_": "messages_refused",
    "transport_": "transport_turns",
}
#: Those that are 0 before they were counted, so that a rate sees the first one too.
_ENDS = ("completed", "failed", "canceled", "expired", "released")


class Insight:
    """Look at the parts of a worker; it changes nothing and waits for nobody."""

    def __init__(
        self,
        settings: WorkerSettings,
        engine: Engine,
        presence: Presence,
        drain: Drain,
        stands: Stands,
        clock: Clock,
        network_counters: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._presence = presence
        self._drain = drain
        self._stands = stands
        self._clock = clock
        self._network_counters = network_counters

    @property
    def was_asked_to_drain(self) -> bool:
        """Whether its hub wants it to end: what it misses then is nobody's worry."""
        return self._stands.was_asked_to_drain

    @property
    def slots(self) -> int:
        """How many tasks it runs at the same time at most; none once it has ended."""
        return 0 if self._stands.state in _ENDED else self._settings.concurrency

    def counters(self) -> dict[str, int]:
        """Return what happened how often, by name."""
        engine = self._engine
        return {
            **engine.counters.snapshot(),
            "abandoned_threads": engine.executor.abandoned,
            "outcomes_unheard": engine.publisher.unheard(),
            "outcomes_spooled": engine.spool.kept,
        }

    def tasks_of_threads(self) -> dict[int, str]:
        """Return which task each thread of a slot is at, by the thread's number."""
        return self._engine.tasks_of_threads()

    def conditions(self) -> list[Condition]:
        """Return what has to hold for offers to come here and be taken."""
        state, error = self._stands.state, self._stands.error
        heard = self._heard()
        limit = HEARD_LATELY * beat_interval(self._settings.heartbeat_interval, self._engine.standing.numbers)
        strain = self._engine.strain.reason
        is_in, hears = self._presence.is_in, self._presence.hears
        lately = heard is not None and heard <= limit
        since = "never" if heard is None else f"{heard:.1f} s ago"
        return [
            Condition("registered", is_in, "the hub knows it" if is_in else "the hub does not know it (any more)"),
            Condition("listening", hears, "probes come" if hears else "nothing comes by the network"),
            Condition("hub_heard", lately, f"the hub answered {since}; {limit:g} s are allowed"),
            Condition("serving", state in _SERVING, state),
            Condition("able", strain is None, "the process has all that it needs" if strain is None else strain),
            Condition("accepted", error is None, "not refused" if error is None else _why(error)),
        ]

    def samples(self) -> Iterator[Sample]:
        """Yield the numbers of the instance."""
        who = (self._settings.agent_name, self._settings.instance_id)
        conditions = self.conditions()
        yield _sample("ready", who, all(one.is_met for one in conditions))
        for one in conditions:
            yield _sample("condition", (*who, one.name), one.is_met)
        for name, value in self._gauges().items():
            yield _sample(name, who, value)
        for labels, value in self._counts().items():
            yield _sample(f"{labels[0]}_total", (*who, *labels[1:]), value)

    def _heard(self) -> float | None:
        """Return how many seconds ago the last heartbeat began that was answered."""
        return self._engine.standing.trust.heard_for(self._clock.monotonic())

    def _gauges(self) -> dict[str, float]:
        engine, counters = self._engine, self.counters()
        heard = self._heard()
        found: dict[str, float] = {
            "slots": self.slots,
            "slots_free": engine.running.free() if self._stands.state in _SERVING else 0,
            "runs_active": len(engine.running.active_tasks()),
            "waiting_runs": len(engine.running.waiting()),
            "abandoned_threads": counters["abandoned_threads"],
            "stuck_slots": engine.executor.stuck,
            "starved_seconds": engine.tick.starved_seconds,
            "outcomes_unheard": counters["outcomes_unheard"],
            "outcomes_spooled": counters["outcomes_spooled"],
            "drain_seconds": self._drain.seconds,
            "streams_open": engine.streams.active,
        }
        if heard is None or self._stands.state in _ENDED:
            return found
        return {**found, "hub_heard_seconds": heard}

    def _counts(self) -> dict[tuple[str, ...], int]:
        found = dict.fromkeys(_COUNTED.values(), 0) | {("runs", state): 0 for state in _ENDS}
        found["duplicates_dropped", "message"] = self._network_counters.get("duplicates", 0)
        for name, value in self._engine.counters.snapshot().items():
            labels = labels_of(name)
            if labels is not None:
                found[labels] = value
        return found


def labels_of(counter: str) -> tuple[str, ...] | None:
    """Return the family of one of the worker's counters, and its label if it has one; None for one that is not told."""
    known = _COUNTED.get(counter)
    if known is not None:
        return known
    for beginning, family in _BEGINNING.items():
        if counter.startswith(beginning):
            return family, counter.removeprefix(beginning)
    return None


def _sample(name: str, labels: tuple[str, ...], value: float) -> Sample:
    return Sample(f"blocks_worker_{name}", labels, value)


def _why(error: BaseException) -> str:
    """Return why it was refused, in the hub's own word."""
    return str(getattr(error, "code", "")) or type(error).__name__
