"""Consumers, two instances and time in any order against the real services: what must hold always holds.

Workers here lie as far as real ones can: they repeat themselves, speak with leases they lost, send lists that
lack tasks, fall silent, die and come back under the same name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from ledger_world import World, done
from sqlalchemy import update

from blocks_worker.hub.instance_service import Registration
from blocks_worker.hub.store.filters import TaskFilter
from blocks_worker.hub.store.schema import agent
from blocks_worker.protocol.leases import ClaimAnswer, HeartbeatAnswer, ReportAnswer
from blocks_worker.protocol.lifecycle import EVERYBODY
from blocks_worker.protocol.tasks import RetryPolicy, SubmitAnswer

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Holder

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "EXPIRED"}
NAMES = ("one", "two")


@dataclass
class Run:
    """A lease that was given to somebody."""

    holder: Holder
    task_id: str
    epoch: int
    lease: str
    digest: str
    said: int = 0
    #: The list of its worker names it.
    listed: bool = True


@dataclass
class Worker:
    """The living process of one instance."""

    holder: Holder
    pid: int
    runs: list[Run] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    """Drive the services at random."""

    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.add_agent()
        self.workers: dict[str, Worker | None] = dict.fromkeys(NAMES)
        self.count = 0
        self.keys: dict[str, str] = {}
        self.once: set[str] = set()
        #: Who was given the lease of a task in an epoch, and how often handlers started.
        self.leases: dict[tuple[str, int], str] = {}
        self.started: dict[str, int] = {}
        #: Failures that were taken and did not end their task.
        self.failures: dict[str, int] = {}
        #: What was stored of the steps of each task.
        self.steps: dict[str, dict[str, bytes]] = {}
        #: The rows of ended tasks, which never change again.
        self.ended: dict[str, Any] = {}

    def teardown(self) -> None:
        """Heal, and see that everything that was accepted comes to an end."""
        try:
            self.heal()
        finally:
            self.world.__exit__()

    # ---------------------------------------------------------------------------------------------- consumers
    @rule(
        key=st.sampled_from(["", "", "k1", "k2"]),
        once=st.booleans(),
        limit=st.sampled_from([None, None, 10.0]),
        pipe=st.booleans(),
        attempts=st.integers(1, 3),
        delay=st.sampled_from([None, None, 5.0]),
    )
    def submit(
        self,
        key: str,
        limit: float | None,
        *,
        once: bool,
        pipe: bool = False,
        attempts: int = 1,
        delay: float | None = None,
    ) -> None:
        """Ask for a task, a request or a pipe, with or without a key or a delay, of which several runs may fail."""
        delivery = "at_most_once" if once else "at_least_once"
        fields: dict[str, Any] = {
            "delivery": delivery,
            "queue_ttl": limit,
            "idempotency_key": key or None,
            "delay": delay,
        }
        if pipe:
            fields |= {"task_kind": "pipe", "duration": 1}
        elif not once and attempts > 1:
            fields |= {"retry_policy": RetryPolicy(max_attempts=attempts, initial_delay_sec=1.0)}
        reply = self.world.submit(**fields)
        if reply.status == 422:
            assert key in self.keys
            return
        assert isinstance(reply.body, SubmitAnswer)
        task_id = reply.body.task_id
        assert (reply.status == 200) is (key in self.keys)
        if key:
            assert self.keys.setdefault(key, task_id) == task_id
        if once or pipe:
            self.once.add(task_id)

    @precondition(lambda self: self.tasks())
    @rule(pick=st.integers(0, 99), terminated=st.booleans())
    def cancel(self, pick: int, *, terminated: bool) -> None:
        """Cancel some task."""
        tasks = self.tasks()
        task_id = tasks[pick % len(tasks)]
        was_ended = self.world.row(task_id).ended is not None
        reply = self.world.cancel(task_id, terminated=terminated)
        assert reply.status == (200 if was_ended else 202)

    @precondition(lambda self: self.tasks())
    @rule(pick=st.integers(0, 99), number=st.integers(0, 2))
    def send_again(self, pick: int, number: int) -> None:
        """Send some task again, now and then by the same exchange as before."""
        tasks = self.tasks()
        old = self.world.row(tasks[pick % len(tasks)])
        new_id = f"{number}{old.id}"
        if len(new_id) > 64:
            return
        known = new_id in tasks
        reply = self.world.retry(old.id, new_id)
        if known:
            assert reply.status == 200
        elif old.state in {"FAILED", "CANCELLED", "EXPIRED"} and old.reason != "duration_expired":
            assert reply.status == 201
            new = self.world.row(new_id)
            assert (new.retry_of, new.kind, new.delivery, new.retry) == (old.id, old.kind, old.delivery, old.retry)
            self.steps[new_id] = dict(self.steps.get(old.id, {}))
            if not new.may_run_again:
                self.once.add(new_id)
        else:
            assert reply.status == 409

    @precondition(lambda self: self.tasks())
    @rule(pick=st.integers(0, 99), on=st.booleans(), late=st.integers(0, 2))
    def pause(self, pick: int, late: int, *, on: bool) -> None:
        """Pause or resume some task, now and then with a number from long ago."""
        tasks = self.tasks()
        before = self.world.row(tasks[pick % len(tasks)])
        reply = self.world.pause(before.id, on=on, seq=max(0, before.pause_seq - late))
        after = self.world.row(before.id)
        assert reply.status in {200, 202, 409}
        assert (after.pause_seq > before.pause_seq) is (reply.status == 202)
        if reply.status != 202:
            assert after == before

    # ---------------------------------------------------------------------------------------------- workers
    @initialize(slots=st.integers(1, 3), to_all=st.booleans())
    def begin(self, slots: int, *, to_all: bool) -> None:
        """Start with both instances and some work; of a broadcast agent, now and then."""
        everybody = {"expected_instances": 0 if to_all else 1}
        self.world.do(lambda ledger: ledger.connection.execute(update(agent).values(everybody)).rowcount)
        for name in NAMES:
            self.join(name, slots)
        for number in range(3):
            self.submit("", None, once=number == 0)

    def join(self, name: str, slots: int) -> None:
        """A new process takes the name; the older one lives on and does not know."""
        self.count += 1
        self.world.processes[self.count] = True
        registration = self.world.connect(f"inc{self.count}", instance_id=name, concurrency=slots, pid=self.count)
        if isinstance(registration, Registration):
            self.workers[name] = Worker(registration.holder, self.count)
            self.world.beat(registration.holder)

    @rule(name=st.sampled_from(NAMES), slots=st.integers(1, 3), usurp=st.integers(0, 3))
    def join_again(self, name: str, slots: int, usurp: int) -> None:
        """A process comes back under its name, now and then while the older one still runs."""
        if self.workers[name] is None or usurp == 0:
            self.join(name, slots)

    @rule(name=st.sampled_from(NAMES), lacking=st.booleans(), flag=st.sampled_from([*[""] * 6, "draining", "stopped"]))
    def beat(self, name: str, flag: str, *, lacking: bool) -> None:
        """Send a list, which may lack what the worker holds."""
        worker = self.workers[name]
        if worker is None:
            return
        held = [(run.task_id, run.epoch) for run in worker.runs if run.listed and not lacking]
        reply = self.world.beat(worker.holder, *held, **({flag: True} if flag else {}))
        if not isinstance(reply.body, HeartbeatAnswer) or flag == "stopped":
            self.workers[name] = None
            return
        for task in reply.body.fenced:
            worker.runs = [run for run in worker.runs if (run.task_id, run.epoch) != (task.task_id, task.epoch)]

    @rule(name=st.sampled_from(NAMES), often=st.integers(0, 2))
    def die(self, name: str, often: int) -> None:
        """The process is gone; the host can tell."""
        if often == 0:
            self.kill(name)

    def kill(self, name: str) -> None:
        """End a process."""
        worker, self.workers[name] = self.workers[name], None
        if worker is not None:
            self.world.processes[worker.pid] = False

    @rule(target=runs, name=st.sampled_from(NAMES), deaf=st.integers(0, 4), task=st.booleans())
    def claim(self, name: str, deaf: int, *, task: bool) -> Any:
        """Claim every offer that stands for the instance; now and then refuse them, or never hear the answers."""
        if task:
            self.submit("", None, once=False)
        worker = self.workers[name]
        if worker is None:
            return multiple()
        rows = self.world.store.read(lambda ledger: ledger.tasks_of(worker.holder.incarnation))
        offered = [row for row in rows if row.state == "OFFERED"]
        new = [self.claim_one(worker, row.id, row.epoch, refuse=deaf == 1, known=deaf != 2) for row in offered]
        return multiple(*[run for run in new if run is not None])

    def claim_one(self, worker: Worker, task_id: str, epoch: int, *, refuse: bool, known: bool) -> Run | None:
        """Claim one offer; a worker that never hears the answer does not know of its run."""
        reply = self.world.claim(worker.holder, task_id, epoch, nack="no room" if refuse else None)
        assert reply.status == 200
        assert isinstance(reply.body, ClaimAnswer)
        if refuse:
            return None
        steps = reply.body.steps or []
        assert {step.name: bytes(step.value) for step in steps} == self.steps.get(task_id, {})
        assert self.leases.setdefault((task_id, epoch), worker.holder.incarnation) == worker.holder.incarnation
        if not known:
            return None
        self.started[task_id] = self.started.get(task_id, 0) + 1
        run = Run(worker.holder, task_id, epoch, reply.body.lease, f"{task_id}:{epoch}".ljust(64, "-"))
        worker.runs.append(run)
        return run

    @rule(run=runs, epoch=st.integers(-1, 1))
    def claim_again(self, run: Run, epoch: int) -> None:
        """Somebody claims what is not offered to him: only the holder gets a lease, the same one."""
        reply = self.world.claim(run.holder, run.task_id, max(1, run.epoch + epoch))
        if reply.status == 200 and isinstance(reply.body, ClaimAnswer):
            key = (run.task_id, reply.body.epoch)
            assert self.leases.setdefault(key, run.holder.incarnation) == run.holder.incarnation

    # ---------------------------------------------------------------------------------------------- reports
    @rule(run=runs, more=st.integers(0, 3), gap=st.sampled_from([0, 0, 0, 1]), again=st.integers(0, 2))
    def report_events(self, run: Run, more: int, gap: int, again: int) -> None:
        """Say some events, some of them again, perhaps with a hole."""
        first = max(1, run.said + 1 - again) + gap
        numbers = tuple(range(first, run.said + 1 + gap + more))
        reply = self.world.report(run.holder, run.lease, run.task_id, epoch=run.epoch, events=numbers)
        assert reply.status in {200, 409, 422}
        if reply.status == 200 and numbers:
            run.said = max(run.said, numbers[-1])

    @rule(run=runs, name=st.sampled_from("ab"), value=st.integers(0, 9))
    def store(self, run: Run, name: str, value: int) -> None:
        """[I10] Store a step: only the holder may, and the first value under a name stays."""
        steps = {name: b"%d" % value}
        reply = self.world.report(run.holder, run.lease, run.task_id, epoch=run.epoch, steps=steps)
        assert reply.status in {200, 409}
        if reply.status == 200:
            first = self.steps.setdefault(run.task_id, {}).setdefault(name, steps[name])
            assert isinstance(reply.body, ReportAnswer)
            assert [bytes(step.value) for step in reply.body.steps or []] == [first]

    @rule(run=runs, state=st.sampled_from(["completed", "failed", "canceled"]), more=st.integers(0, 2))
    def finish(self, run: Run, state: str, more: int) -> None:
        """Say the outcome with the last events; whoever said it may say it again."""
        last = run.said + more
        numbers = tuple(range(run.said + 1, last + 1))
        outcome = done(last, state=state, digest=run.digest)
        before = self.world.row(run.task_id)
        first = self.world.report(run.holder, run.lease, run.task_id, epoch=run.epoch, events=numbers, outcome=outcome)
        after = self.world.row(run.task_id)
        if first.status == 200 and before.ended is None and after.ended is None and after.retries < before.retries:
            assert state == "failed"
            self.failures[run.task_id] = self.failures.get(run.task_id, 0) + 1
        again = self.world.report(run.holder, run.lease, run.task_id, epoch=run.epoch, events=numbers, outcome=outcome)
        assert first.status in {200, 409, 422}
        assert again.status == first.status
        if first.status == 200:
            run.listed = False

    @rule(run=consumes(runs))
    def release(self, run: Run) -> None:
        """Give the run back."""
        reply = self.world.report(run.holder, run.lease, run.task_id, epoch=run.epoch, release=True)
        assert reply.status in {200, 409}
        run.listed = False

    # ---------------------------------------------------------------------------------------------- time
    @rule(steps=st.sampled_from([0, 1, 1, 2, 3, 9]), silent=st.sampled_from(["", "", "", "one", "two"]))
    def sweep(self, steps: int, silent: str) -> None:
        """Let time pass, in steps of a heartbeat; one of the instances may be silent meanwhile."""
        self.world.sweep(0.6)
        for _ in range(steps):
            for name in NAMES:
                if name != silent:
                    self.beat(name, "", lacking=False)
            self.world.sweep(4.5)

    # ---------------------------------------------------------------------------------------------- what holds
    def tasks(self) -> list[str]:
        """Return every task that was accepted."""
        return [row.id for row in self.rows()]

    def rows(self) -> list[Any]:
        """Return every row."""
        return self.world.store.read(lambda ledger: ledger.page("ann", TaskFilter(), before=None, most=999))

    @invariant()
    def ended_rows_stay(self) -> None:
        """[I2] What is recorded as the end never changes, and there is one terminal event of it."""
        for row in self.rows():
            if row.id in self.ended:
                assert row == self.ended[row.id]
            elif row.state in ENDED:
                self.ended[row.id] = row
                self.check_events(row)

    def check_events(self, row: Any) -> None:
        """[I2] [I4] [I5] One terminal, last; events of the final epoch 1…last_n in order; epochs never go back."""
        events = self.world.events(row.id)
        assert [event["type"] == "terminal" for event in events] == [False] * (len(events) - 1) + [True]
        assert events[-1]["epoch"] == row.epoch
        assert events[-1]["lastN"] == row.last_n
        final = [event["n"] for event in events if event["epoch"] == row.epoch and "n" in event]
        assert final == list(range(1, row.last_n + 1))
        epochs = [event["epoch"] for event in events]
        assert epochs == sorted(epochs)
        heard = [json.loads(said.message) for said in self.world.said if said.channel == f"u.ann.{row.id}"]
        assert heard == events

    @invariant()
    def nobody_holds_too_much(self) -> None:
        """[R15] No instance is offered or holds more than its slots, and none that is gone holds anything."""

        def work(ledger: Ledger) -> list[tuple[int, int]]:
            return [(len(ledger.tasks_of(row.incarnation)), row.concurrency) for row in ledger.instances()]

        def asked(ledger: Ledger, row: Any) -> int:
            return len(ledger.offered_to(row)) if row.inc == EVERYBODY else int(row.inc is not None)

        used = self.world.store.read(work)
        rows = self.rows()
        stands = self.world.store.read(lambda ledger: [(row, asked(ledger, row)) for row in rows])
        assert all(count <= slots for count, slots in used)
        assert sum(count for count, _ in used) == sum(count for _, count in stands)
        assert all(count > 0 for row, count in stands if row.state == "OFFERED")

    @invariant()
    def nothing_paused_is_offered(self) -> None:
        """[I12] What is paused stands with nobody who has not begun it."""
        assert not [row.id for row in self.rows() if row.state == "OFFERED" and row.pause]

    @invariant()
    def waits_for_its_retry(self) -> None:
        """[I12] What waits for its next run is with nobody, has runs left by its policy, and its time is planned."""
        for row in self.rows():
            failed = self.failures.get(row.id, 0)
            most = 0 if row.retry is None else json.loads(row.retry)["maxAttempts"] - 1
            assert row.retries == most - failed >= 0
            if row.ready_at is not None:
                assert (row.state, row.inc) == ("QUEUED", None)
                assert row.due_at is not None
                assert row.due_at <= row.ready_at

    @invariant()
    def started_once(self) -> None:
        """[I11] What may be started once was started once at most."""
        assert all(self.started.get(task_id, 0) <= 1 for task_id in self.once)

    def heal(self) -> None:
        """[I1] [I7] With one good worker and time, every task ends."""
        for name in NAMES:
            self.kill(name)
        for _ in range(3):
            self.world.sweep(40)
        for row in self.rows():
            if row.pause and row.ended is None:
                self.world.pause(row.id, on=False)
        good = self.world.join("good", instance_id="good", concurrency=64)
        for row in self.world.store.read(lambda ledger: ledger.tasks_of("good")):
            lease = self.world.lease(good, row.id, row.epoch)
            self.world.report(good, lease, row.id, epoch=row.epoch, events=(1,), outcome=done(1))
        self.world.sweep()
        assert {row.state for row in self.rows()} <= ENDED
        self.ended_rows_stay()
        assert len({row.id for row in self.rows()}) == len(self.rows())


LedgerMachine.TestCase.settings = settings(stateful_step_count=50, suppress_health_check=list(HealthCheck))
# Seconds of work, which a busy machine spreads over minutes.
TestLedgerMachine = pytest.mark.timeout(400)(LedgerMachine.TestCase)
