"""Rows of the ledger as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from blocks_worker.protocol.leases import Process
from blocks_worker.protocol.lifecycle import HELD, TERMINAL
from blocks_worker.protocol.tasks import USUAL_PRIORITY


class TaskRecord(NamedTuple):
    """One task; the fields are the columns of the table, in their order."""

    id: str
    owner: str
    agent: str
    billing_mode: str
    session: str | None
    idem: str | None
    body_digest: str
    parent: str | None
    state: str
    epoch: int
    attempt: int
    lost: int
    delivery: str
    inc: str | None
    lost_inc: str | None
    last_n: int
    digest: str
    outcome_digest: str | None
    max_runtime: float
    deadline: int | None
    queue_until: int | None
    offer_until: int | None
    leased_at: int | None
    cancel_at: int | None
    force_at: int | None
    error: str | None
    error_code: str | None
    reason: str | None
    created: int
    updated: int
    ended: int | None
    due_at: int | None
    purge_at: int | None
    watchers: str | None = None
    kind: str = "request"
    duration: int | None = None
    expires_at: int | None = None
    pause: int = 0
    pause_seq: int = 0
    paused: int = 0
    parked: int = 0
    retry_of: str | None = None
    retry: str | None = None
    retries: int = 0
    ready_at: int | None = None
    dead_reason: str | None = None
    priority: int = USUAL_PRIORITY
    rank: int = 0
    ask_id: str | None = None
    ask_until: int | None = None
    question: str | None = None
    progress_timeout: float | None = None
    event_bytes: int = 0

    def changed(self, **values: Any) -> TaskRecord:
        """Return the task with other values: what `_replace` does, in half of its time."""
        fields = list(self)
        for name, value in values.items():
            fields[_PLACES[name]] = value
        return tuple.__new__(TaskRecord, fields)

    @property
    def is_ended(self) -> bool:
        """Whether the task reached its end."""
        return self.state in TERMINAL

    @property
    def is_held(self) -> bool:
        """Whether a worker has the right to speak for it."""
        return self.inc is not None and self.state in HELD

    @property
    def may_run_again(self) -> bool:
        """Whether it may be started again after a lease was given: a pipe's streams cannot go on elsewhere."""
        return self.delivery == "at_least_once" and not self.is_pipe

    @property
    def is_pipe(self) -> bool:
        """Whether it lives on after its handler has returned."""
        return self.kind == "pipe"


_PLACES = {name: place for place, name in enumerate(TaskRecord._fields)}


class AnswerRecord(NamedTuple):
    """What was answered to a question; the fields are the columns of the table, in their order."""

    task: str
    ask_id: str
    #: As JSON; None: nobody answered in time.
    value: bytes | None
    at: int


class StubRecord(NamedTuple):
    """What stays of a purged task; the fields are the columns of the table, in their order."""

    id: str
    owner: str
    agent: str
    idem: str | None
    #: As consumers saw it.
    state: str
    digest: str | None
    ended: int
    purged_at: int
    purged_by: str


class InstanceRecord(NamedTuple):
    """One process life of an instance; the fields are the columns of the table, in their order."""

    agent_id: str
    incarnation: str
    owner: str
    instance_id: str
    agent: str
    billing_mode: str
    state: str
    concurrency: int
    started_at: int
    connected_at: int
    last_seen: int
    host: str | None
    pid: int | None
    process_started: str | None
    ended: int | None

    @property
    def process(self) -> Process | None:
        """The process it lives in, when it told."""
        if self.host is None or self.pid is None or self.process_started is None:
            return None
        return Process(host=self.host, pid=self.pid, started=self.process_started)


class AgentFacts(NamedTuple):
    """What decides about the tasks of an agent."""

    name: str
    owner: str
    billing_mode: str
    listing: str
    max_pending_backlog: int
    max_running_time_sec: int
    delivery: str
    #: The agent's card as JSON, for what it declares.
    card: str | None = None
    expected_instances: int = 1
    #: Tasks that all its instances together may be offered or hold at once.
    concurrency_limit: int | None = None
    progress_timeout_sec: int | None = None

    @property
    def is_broadcast(self) -> bool:
        """Whether each task is offered to all who have room."""
        return self.expected_instances == 0


@dataclass(frozen=True)
class Candidate:
    """An instance that might be offered a task, and how many slots it has left by the hub's own count."""

    agent_id: str
    incarnation: str
    billing_mode: str
    free: int
