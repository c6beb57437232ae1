"""The world of one history: hub, three workers and a consumer on one heap, the faults of its story, and the healing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simulation.consumer import OWNER, Consumer
from simulation.heap import Heap
from simulation.history import History
from simulation.hub import Hub
from simulation.network import Network
from simulation.story import HEALING, HOSTILE, WORKERS, Blow, Story
from simulation.worker import Life
from support import SeededEntropy

from blocks_worker.protocol.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.hub.task_service import Holder, Reply
    from blocks_worker.protocol.files import RequestUpload, UploadOffer
    from blocks_worker.protocol.leases import Claim, Report

#: Seconds that go on after everything has ended, for what still lies about.
AFTERMATH = 20.0


class World:
    """Play a story to its end."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.owner = OWNER
        self.heap = Heap()
        self.entropy = SeededEntropy(story.seed)
        self.history = History()
        self.network = Network(self)
        self._begun = self.heap.now
        self._healed_at: float | None = None
        self._pids = 0
        self._alive: set[int] = set()
        self._host_knows = story.draw("host knows") < 0.5
        self._hubs: list[Hub] = []
        self._at_work: Hub | None = None
        self._hubs.append(Hub(self))
        self.workers: list[Life] = [self._start(number) for number in range(WORKERS)]
        self.consumer = Consumer(self)
        for blow in story.blows:
            self.heap.after(blow.at, lambda blow=blow: self._strike(blow))

    @property
    def hub(self) -> Hub:
        """The hub that is at work just now, else the newest."""
        return self._at_work or self._hubs[-1]

    @contextmanager
    def carried_out_by(self, hub: Hub) -> Iterator[None]:
        """Have what is done inside the block done by this hub."""
        before, self._at_work = self._at_work, hub
        try:
            yield
        finally:
            self._at_work = before

    def hub_for(self, key: str) -> Hub:
        """Return to whom a call comes: where two serve one ledger, to either."""
        older = [hub for hub in self._hubs[:-1] if hub.is_up]
        return older[0] if older and self.story.draw("which hub", key) < 0.5 else self._hubs[-1]

    @property
    def is_healing(self) -> bool:
        """Tell whether the time of faults is over."""
        return self.heap.now >= self._begun + HOSTILE

    def happens(self, kind: str, share: float, *key: Any) -> bool:
        """Decide whether a small fault happens, unless the story leaves it out."""
        if self.is_healing or self.story.draw(kind, *key) >= share:
            return False
        name = ": ".join([kind, *map(str, key)])
        if kind in self.story.quiet or name in self.story.quiet:
            return False
        self.history.small.append(name)
        self.history.faults[kind] += 1
        return True

    def run(self) -> History:
        """Let the faults happen, then heal; stop a while after everything has ended."""
        end = self._begun + HOSTILE + HEALING
        while self.heap.step(end):
            if self._healed_at is None and self.is_healing and self._is_over():
                self._healed_at = self.heap.now
                end = self.heap.now + AFTERMATH
        return self.history

    def recovery(self) -> float:
        """Return the seconds from the last fault to the end of everything."""
        return (self._healed_at or self.heap.now) - self._begun - HOSTILE

    def close(self) -> None:
        """Let go of the database."""
        self.hub.database.close()

    def knows_process(self, pid: int) -> bool | None:
        """Tell whether a process lives, where the hub shares its host."""
        return pid in self._alive if self._host_knows else None

    def _is_over(self) -> bool:
        history = self.history
        # What was sent again is accepted under a name of its own.
        all_asked = history.accepted.keys() >= {plan.name for plan in self.story.tasks} and not history.awaited
        return all_asked and history.finished >= set(history.accepted.values())

    # ------------------------------------------------------------------ what the recorder sees at the hub's door
    def claimed(self, ledger: Ledger, holder: Holder, item: Claim) -> Reply:
        """Claim, and record who got a lease."""
        before = ledger.task(item.task_id)
        reply = self.hub.tasks.claim(ledger, holder, item)
        if reply.status == 200:
            if before is not None and before.state == State.OFFERED.value and before.pause:
                self.history.wrong(self.heap.now, f"I12: {item.task_id} was leased while it was paused")
            if before is not None:
                self._check_delay(before)
            self.history.leases[(item.task_id, item.epoch)].add(holder.incarnation)
            self.history.say(self.heap.now, f"{item.task_id}: epoch {item.epoch} is leased to {holder.incarnation}")
        return reply

    def given(self, key: tuple[str, int], incarnation: str) -> None:
        """Record who takes a lease that came with its offer."""
        self.history.leases[key].add(incarnation)
        self.history.say(self.heap.now, f"{key[0]}: epoch {key[1]} came with its lease to {incarnation}")

    def _check_delay(self, row: TaskRecord) -> None:
        """Notice a lease of a task that was not to begin yet."""
        plan = next((plan for plan in self.story.tasks if plan.name == row.idem), None)
        early = row.created + int((0.0 if plan is None else plan.delay or 0.0) * 1000) - self.hub.tasks.turns.now_ms()
        if early > 0:
            self.history.wrong(self.heap.now, f"I12: {row.id} was leased {early} ms before it was to begin")

    def reported(self, ledger: Ledger, holder: Holder, item: Report) -> Reply:
        """Report, and record what was taken from whom."""
        before = ledger.task(item.task_id)
        reply = self.hub.tasks.report(ledger, holder, item)
        what = (
            "an outcome"
            if item.outcome
            else "a release"
            if item.release
            else f"{len(item.steps)} steps, {len(item.events)} events"
        )
        self.history.say(
            self.heap.now, f"{item.task_id}: {holder.incarnation} reports {what} of epoch {item.epoch}: {reply.status}"
        )
        after = ledger.task(item.task_id)
        if before is not None and after is not None and after.retries < before.retries:
            failure = item.epoch, self.heap.now, (after.ready_at or 0) - after.updated
            self.history.failing.append((item.task_id, failure))
        if reply.status == 200 and before is not None and before.epoch != item.epoch:
            self.history.wrong(
                self.heap.now, f"I5: {item.task_id} took {what} of epoch {item.epoch} in epoch {before.epoch}"
            )
        return reply

    def requested(self, ledger: Ledger, holder: Holder, request: RequestUpload) -> UploadOffer:
        """Ask for an upload, and notice one that is given to a run which has the task no more."""
        offer = self.hub.files.request(ledger, holder, request)
        row = ledger.task(request.task_id or "")
        if row is None or row.epoch != request.epoch or holder.incarnation not in {row.inc, row.lost_inc}:
            self.history.wrong(self.heap.now, f"I5: {request.task_id} takes a file of epoch {request.epoch}")
        return offer

    def started(self, key: tuple[str, int], incarnation: str) -> None:
        """Record the start of a handler."""
        self.history.starts[key].append((self.heap.now, incarnation))
        self.history.say(self.heap.now, f"{key[0]}: the handler of epoch {key[1]} starts at {incarnation}")

    # ------------------------------------------------------------------ blows
    def _start(self, number: int) -> Life:
        self._pids += 1
        pid = self._pids
        self._alive.add(pid)
        return Life(self, f"worker-{number}", pid, lambda: self._ended(number, pid))

    def _ended(self, number: int, pid: int) -> None:
        """Let a worker that ended by itself be started again, as its supervisor would."""
        self._alive.discard(pid)
        pause = self.story.between(0.5, 20, "restart", number, pid)
        self.heap.after(pause, lambda: self._restart(number))

    def _restart(self, number: int) -> None:
        if self.workers[number].is_gone:
            self.workers[number] = self._start(number)

    def _strike(self, blow: Blow) -> None:
        self.history.faults[blow.kind] += 1
        self.history.say(self.heap.now, f"blow: {blow}")
        if blow.kind == "crash":
            self.hub.crash(blow.point, blow.seconds)
        elif blow.kind == "takeover":
            self._take_over()
        elif blow.kind == "bus":
            self.network.is_bus_dead = True
            self.heap.after(blow.seconds, self._mend_bus)
        else:
            self._strike_worker(blow, self.workers[blow.worker])

    def _take_over(self) -> None:
        """Have another hub begin on the ledger, though one is there."""
        before = self._hubs[-1]
        if before.is_up:
            before.is_replaced = True
            self._hubs.append(Hub(self, len(self._hubs), before))

    def _mend_bus(self) -> None:
        self.network.is_bus_dead = False

    def _strike_worker(self, blow: Blow, life: Life) -> None:
        if life.is_gone:
            return
        if blow.kind == "pause":
            life.held_until = self.heap.now + blow.seconds
        elif blow.kind == "drain":
            life.drain(blow.seconds)
        else:
            life.is_gone = True
            self._alive.discard(life.pid)
            if not blow.for_good:
                self.heap.after(blow.seconds, lambda: self._restart(blow.worker))
