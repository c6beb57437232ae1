"""A hub's ledger and services on a database in memory, with a clock that the test moves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import insert
from support import FakeClock, SeededEntropy

from blocks_worker.concurrency import Deadline, SteadyClock
from blocks_worker.hub.instance_service import InstanceService, Registration
from blocks_worker.hub.shares import Shares
from blocks_worker.hub.store.filters import TaskFilter
from blocks_worker.hub.store.schema import agent
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.task_service import Consumer, Holder, Reply, TaskService
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.leases import (
    Claim,
    ClaimAnswer,
    ConnectRequest,
    Heartbeat,
    HeartbeatAnswer,
    HeldTask,
    Numbers,
    Outcome,
    Process,
    Report,
    ReportEvent,
)
from blocks_worker.protocol.steps import Step
from blocks_worker.protocol.tasks import CancelTask, EventsAnswer, EventsQuery, PauseTask, RetryTask, SubmitTask
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.hub.store.transaction import Publication

T = TypeVar("T")

ANN = Consumer(owner="ann", session_channel="session.ann")
BOB = Consumer(owner="bob", session_channel="session.bob")


class World:
    """Be a hub without doors: its verbs, and short cuts through them."""

    def __init__(
        self,
        path: Path | None = None,
        numbers: Numbers | None = None,
        seed: int = 1,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas = quotas or Quotas()
        self.numbers = numbers or Numbers()
        self.clock = FakeClock()
        self.entropy = SeededEntropy(seed)
        self.said: list[Publication] = []
        self.has_room = True
        #: Whether the instances have links, by which they are given tasks with their offers.
        self.is_linked = False
        #: What the host knows of processes, by pid; one that is not here cannot be told.
        self.processes: dict[int, bool] = {}
        self._path = path
        self.boot()

    def boot(self) -> None:
        """Start the hub's parts on the database that is there."""
        self.steady = SteadyClock(self.clock)
        self.store = Store(self._path, clock=self.clock, on_commit=self.said.extend)
        self.store.open()
        secret = b"s" * 32
        self.shares = Shares(self._quotas, self.steady)
        self.tasks = TaskService(
            numbers=self.numbers,
            steady=self.steady,
            entropy=self.entropy,
            secret=secret,
            admits=lambda: self.has_room,
            shares=self.shares,
            follows=lambda _mode, _channel: self.is_linked,
        )
        self.instances = InstanceService(
            tasks=self.tasks,
            numbers=self.numbers,
            steady=self.steady,
            clock=self.clock,
            entropy=self.entropy,
            secret=secret,
            is_alive=self._is_alive,
        )
        self.sweeper = Sweeper(tasks=self.tasks, instances=self.instances)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.store.close(Deadline(10))

    def do(self, work: Callable[[Ledger], T]) -> T:
        """Run a set of writes and return what it returned."""
        return self.store.write(work).result(10)

    def add_agent(self, name: str = "echo", **facts: Any) -> None:
        """Register an agent that anybody may call."""
        row: dict[str, Any] = {"name": name, "owner": "ann", "description": "", "tags": "[]", "billing_mode": "free"}
        row |= {"listing": "public", "concurrency": 1, "expected_instances": 1, "max_pending_backlog": 10_000}
        row |= {"max_running_time_sec": 3600, "delivery": "at_least_once", "registered_at": 0, "updated": 0}
        self.do(lambda ledger: ledger.connection.execute(insert(agent).values(row | facts)).rowcount)

    # ------------------------------------------------------------------------------------------ instances
    def connect(
        self,
        incarnation: str,
        *,
        instance_id: str = "",
        concurrency: int = 1,
        pid: int | None = None,
        agent: str = "echo",
        owner: str = "ann",
    ) -> Registration | Reply:
        """Connect a process life; its instance is called as it is, unless said otherwise."""
        request = ConnectRequest(
            agent_name=agent,
            instance_id=instance_id or incarnation,
            incarnation=incarnation,
            concurrency=concurrency,
            process=None if pid is None else Process(host="here", pid=pid, started="1"),
        )

        def work(ledger: Ledger) -> Registration | Reply:
            facts = ledger.agent(agent)
            assert facts is not None
            return self.instances.connect(ledger, owner, request, facts)

        return self.do(work)

    def join(self, incarnation: str = "inc1", **options: Any) -> Holder:
        """Connect and beat once: ready for offers."""
        registration = self.connect(incarnation, **options)
        assert isinstance(registration, Registration)
        self.beat(registration.holder)
        return registration.holder

    def beat(self, holder: Holder, *held: tuple[str, int], parked: tuple[str, ...] = (), **fields: Any) -> Reply:
        """Send a heartbeat with this list; `parked`: tasks in it that take no slot."""
        listed = [HeldTask(task_id=key, epoch=epoch, parked=key in parked) for key, epoch in held]
        beat = Heartbeat(held=listed, **fields)
        return self.do(lambda ledger: self.instances.heartbeat(ledger, holder, beat))

    def told(self, holder: Holder, *held: tuple[str, int]) -> HeartbeatAnswer:
        """Send a heartbeat and return its answer."""
        reply = self.beat(holder, *held)
        assert isinstance(reply.body, HeartbeatAnswer), reply
        return reply.body

    # ------------------------------------------------------------------------------------------ consumers
    def submit(self, consumer: Consumer = ANN, **fields: Any) -> Reply:
        """Ask for a task."""
        fields.setdefault("agent_name", "echo")
        request = SubmitTask(request_parts=msgspec.Raw(b'[{"text":"hi"}]'), **fields)
        return self.do(lambda ledger: self.tasks.submit(ledger, consumer, request))

    def add(self, task_id: str = "t1", **fields: Any) -> TaskRecord:
        """Ask for a task that must be taken in, and return its row."""
        reply = self.submit(task_id=task_id, **fields)
        assert reply.status == 201, reply
        return self.row(task_id)

    def row(self, task_id: str = "t1") -> TaskRecord:
        """Return the row of a task."""
        row = self.store.read(lambda ledger: ledger.task(task_id))
        assert row is not None
        return row

    def cancel(self, task_id: str = "t1", *, consumer: Consumer = ANN, **fields: Any) -> Reply:
        """Cancel a task."""
        request = CancelTask(**fields)
        return self.do(lambda ledger: self.tasks.cancel(ledger, consumer, task_id, request))

    def pause(self, task_id: str = "t1", *, on: bool = True, seq: int | None = None, consumer: Consumer = ANN) -> Reply:
        """Turn the pause flag, from the number that the row has unless said otherwise."""
        request = PauseTask(pause_seq=self.row(task_id).pause_seq if seq is None else seq)
        return self.do(lambda ledger: self.tasks.pause(ledger, consumer, task_id, request, on=on))

    def retry(
        self, task_id: str, new_id: str | None, key: str | None = None, *, consumer: Consumer = ANN, **fields: Any
    ) -> Reply:
        """Send a task again."""
        request = RetryTask(task_id=new_id, idempotency_key=key, **fields)
        return self.do(lambda ledger: self.tasks.retry(ledger, consumer, task_id, request))

    def page(self, consumer: Consumer = ANN, *, cursor: str | None = None, limit: int = 9, **wanted: Any) -> Reply:
        """Return a page of the consumer's tasks."""
        asked = TaskFilter(**wanted)
        return self.store.read(lambda ledger: self.tasks.page(ledger, consumer, asked, cursor=cursor, limit=limit))

    def purge(self, task_id: str = "t1", *, consumer: Consumer = ANN) -> Reply:
        """Purge a task."""
        return self.do(lambda ledger: self.tasks.purge(ledger, consumer, task_id))

    def events(
        self, task_id: str = "t1", consumer: Consumer = ANN, after: int = 0, limit: int = 256
    ) -> list[dict[str, Any]]:
        """Return the stored events."""
        query = EventsQuery(task_id=task_id, after=after)
        reply = self.store.read(lambda ledger: self.tasks.events(ledger, consumer, query, limit))
        assert isinstance(reply.body, EventsAnswer)
        return [json.loads(bytes(event)) for event in reply.body.events]

    # ------------------------------------------------------------------------------------------ runs
    def claim(self, holder: Holder, task_id: str = "t1", epoch: int | None = None, **fields: Any) -> Reply:
        """Claim a task, in its present epoch unless said otherwise."""
        item = Claim(task_id=task_id, epoch=self.row(task_id).epoch if epoch is None else epoch, **fields)
        return self.do(lambda ledger: self.tasks.claim(ledger, holder, item))

    def lease(self, holder: Holder, task_id: str = "t1", epoch: int | None = None) -> str:
        """Claim a task and return the lease."""
        reply = self.claim(holder, task_id, epoch)
        assert isinstance(reply.body, ClaimAnswer), reply
        return reply.body.lease

    def report(
        self,
        holder: Holder,
        lease: str,
        task_id: str = "t1",
        *,
        epoch: int | None = None,
        steps: dict[str, bytes] | None = None,
        events: tuple[int, ...] = (),
        outcome: Outcome | None = None,
        release: bool = False,
    ) -> Reply:
        """Report steps by their names, events by their numbers, and an end."""
        item = Report(
            task_id=task_id,
            epoch=self.row(task_id).epoch if epoch is None else epoch,
            lease=lease,
            steps=[Step(name=name, value=msgspec.Raw(value)) for name, value in (steps or {}).items()],
            events=[
                ReportEvent(n=n, body=msgspec.Raw(encode({"type": "progress", "message": str(n)}))) for n in events
            ],
            outcome=outcome,
            release=release,
        )
        return self.do(lambda ledger: self.tasks.report(ledger, holder, item))

    def run(self, holder: Holder, task_id: str = "t1", **fields: Any) -> str:
        """Add a task that the holder gets and claims; return the lease."""
        self.add(task_id, **fields)
        return self.lease(holder, task_id)

    # ------------------------------------------------------------------------------------------ time
    def sweep(self, seconds: float = 0.0) -> None:
        """Let time pass, then sweep once."""
        self.clock.advance(seconds)
        self.do(self.sweeper.sweep)

    def heard(self, channel: str) -> list[dict[str, Any]]:
        """Return what was said on a channel."""
        return [decode_trusted(dict, said.message) for said in self.said if said.channel == channel]

    def _is_alive(self, process: Process) -> bool | None:
        return self.processes.get(process.pid)


def done(last_n: int = 0, *, state: Any = "completed", digest: str = "d" * 64, **fields: Any) -> Outcome:
    """Return an outcome."""
    return Outcome(state=state, last_n=last_n, digest=digest, **fields)
