"""One seed is one run: the shipped hub core, worker core and session core on one heap of events.

No rule of the protocol is written here again. The driver only carries messages between the parts, and loses,
doubles and delays them; it kills workers and the hub; it lets virtual time pass.
"""

import heapq
import json
import random
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from typing import Any

from support import FakeClock, SeededEntropy

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.ordering import SessionOrder
from blocks_worker.concurrency import SteadyClock
from blocks_worker.hub.instance_service import AgentFacts, InstanceService, Registration
from blocks_worker.hub.store import agents
from blocks_worker.hub.store.database import driver_of, open_database
from blocks_worker.hub.store.ledger import Ledger, Publication
from blocks_worker.hub.store.numbering import Numbering
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.task_service import Consumer, TaskService
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import CancelRun, StartTask, open_signed
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.leases import Claim, ConnectRequest, Heartbeat, HeartbeatAnswer, Numbers
from blocks_worker.protocol.tasks import CancelTask, EventsAnswer, EventsQuery, SubmitTask
from blocks_worker.worker.dispatcher import Accept, Dispatcher, Nack
from blocks_worker.worker.run import Ending, Run
from blocks_worker.worker.running import Running

SECRET = b"s" * 32
OWNER = Consumer(owner="me", session_channel="session.me")
SLOTS = 2
AGENT = AgentFacts(
    name="agent", owner="me", billing_mode="free", listing="public",
    max_pending_backlog=100, max_running_time_sec=3600, delivery="at_least_once",
)  # fmt: skip


class Simulation:
    """The world of one seed."""

    def __init__(self, seed: int, *, workers: int = 2, tasks: int = 6) -> None:
        self.clock, self.entropy = FakeClock(), SeededEntropy(seed)
        self.chance = random.Random(seed)
        self.steady = SteadyClock(self.clock)
        self.database = open_database(None)
        self.numbering = Numbering()
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.healing = False
        self.faults: dict[str, int] = defaultdict(int)
        self.leases: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.shown: dict[str, list[TaskEvent]] = defaultdict(list)
        self.sessions: dict[str, SessionOrder] = {}
        self.boot_hub()
        self.workers = [Worker(self, f"worker-{number}") for number in range(workers)]
        for number in range(tasks):
            self.after(self.chance.uniform(0, 60), lambda number=number: self.submit(f"task-{number}"))
        for moment in (self.chance.uniform(5, 90) for _ in range(3)):
            self.after(moment, lambda: self.chance.choice(self.workers).kill())
        self.after(self.chance.uniform(5, 90), self.boot_hub)
        self.after(0.5, self.sweep)

    # ------------------------------------------------------------------ time and faults
    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.clock.monotonic()

    def after(self, delay: float, work: Callable[[], None]) -> None:
        """Do it later."""
        heapq.heappush(self.heap, (self.now + delay, next(self.order), work))

    def happens(self, share: float, fault: str) -> bool:
        """Decide whether a fault happens now; none does once the world heals."""
        if self.healing or self.chance.random() >= share:
            return False
        self.faults[fault] += 1
        return True

    def run(self, hostile: float = 100.0, healing: float = 300.0) -> None:
        """Let faults happen for a while, then let the world heal."""
        start = self.now
        while self.heap and self.heap[0][0] < start + hostile + healing:
            moment, _, work = heapq.heappop(self.heap)
            self.clock.advance(moment - self.now)
            self.healing = self.now >= start + hostile
            work()

    # ------------------------------------------------------------------ the hub
    def boot_hub(self) -> None:
        """Start the hub anew on the same ledger: what it kept in memory is gone."""
        numbers = Numbers()
        self.tasks = TaskService(numbers=numbers, steady=self.steady, entropy=self.entropy, secret=SECRET)
        self.instances = InstanceService(
            tasks=self.tasks, numbers=numbers, steady=self.steady, clock=self.clock, entropy=self.entropy,
            secret=SECRET, is_alive=lambda _process: None,
        )  # fmt: skip
        self.sweeper = Sweeper(tasks=self.tasks, instances=self.instances)

    def transact(self, work: Callable[[Ledger], Any]) -> Any:
        """Run one transaction of the hub, and publish what it said."""
        ledger = Ledger(self.database.writer, driver_of(self.database.writer), self.numbering)
        ledger.begin()
        answer = work(ledger)
        said = list(ledger.outbox)
        ledger.commit()
        for publication in said:
            self.publish(publication)
        return answer

    def call(self, work: Callable[[Ledger], Any]) -> Any:
        """Call the hub as over a bad network: None when request or answer was lost."""
        if self.happens(0.08, "request lost"):
            return None
        answer = self.transact(work)
        return None if self.happens(0.08, "answer lost") else answer

    def sweep(self) -> None:
        """Let the hub look at what time alone decides."""
        self.transact(self.sweeper.sweep)
        self.after(0.5, self.sweep)

    def publish(self, publication: Publication) -> None:
        """Put a message on the bus, which loses, doubles and delays."""
        copies = 0 if self.happens(0.15, "bus dropped") else 2 if self.happens(0.15, "bus doubled") else 1
        for _ in range(copies):
            delay = self.chance.uniform(0, 9) if self.happens(0.1, "bus late") else 0.001
            self.after(delay, lambda: self.deliver(publication.channel, json.loads(publication.message)))

    def deliver(self, channel: str, body: dict[str, Any]) -> None:
        """Bring a message to whoever listens on its channel."""
        if channel == OWNER.session_channel:
            event = TaskEvent.of(body)
            if event.task_id in self.sessions:
                self.shown[event.task_id] += self.sessions[event.task_id].feed(event, self.now)
        for worker in self.workers:
            if worker.channel == channel:
                worker.hear(body)

    # ------------------------------------------------------------------ the consumer
    def submit(self, task_id: str) -> None:
        """Ask for a task until the hub has answered."""
        self.sessions.setdefault(task_id, SessionOrder(task_id, self.now))
        request = SubmitTask(
            agent_name="agent", task_id=task_id, idempotency_key=task_id,
            delivery="at_most_once" if task_id.endswith("5") else None,
        )  # fmt: skip
        reply = self.call(lambda ledger: self.tasks.submit(ledger, OWNER, request))
        if reply is None:
            self.after(1.0, lambda: self.submit(task_id))
            return
        if reply.status == 404:  # no worker has registered the agent yet
            self.after(1.0, lambda: self.submit(task_id))
            return
        assert reply.status in {200, 201}, reply
        self.after(0.1, lambda: self.watch(task_id))
        if self.chance.random() < 0.25:
            self.after(self.chance.uniform(0, 20), lambda: self.cancel(task_id))

    def cancel(self, task_id: str) -> None:
        """Cancel a task until the hub has answered."""
        if self.call(lambda ledger: self.tasks.cancel(ledger, OWNER, task_id, CancelTask())) is None:
            self.after(1.0, lambda: self.cancel(task_id))

    def watch(self, task_id: str) -> None:
        """Be the session's clock: give up waiting, ask the ledger."""
        session, now = self.sessions[task_id], self.now
        self.shown[task_id] += session.tick(now)
        if session.wants_ledger(now):
            query = EventsQuery(task_id=task_id, after=session.cursor)
            reply = self.call(lambda ledger: self.tasks.events(ledger, OWNER, query))
            session.asked(now)
            if reply is not None:
                assert isinstance(reply.body, EventsAnswer)
                events = [TaskEvent.of(json.loads(bytes(raw))) for raw in reply.body.events]
                self.shown[task_id] += session.feed_ledger(reply.body.task, events, now, more=reply.body.more)
        if not session.finished:
            self.after(0.25, lambda: self.watch(task_id))


class Worker:
    """One instance: the shipped dispatcher, table and outboxes, moved by the heap instead of threads."""

    def __init__(self, world: Simulation, name: str) -> None:
        self.world, self.name, self.life = world, name, 0
        self.start()

    def start(self) -> None:
        """Begin a process life, and connect."""
        self.life += 1
        self.incarnation = f"{self.name}-{self.life}"
        self.running = Running(SLOTS)
        self.dispatcher = Dispatcher(self.running)
        self.channel, self.key, self.registration = "", "", None
        self.connect(self.life)

    def kill(self) -> None:
        """End the process with all that it knew; the next life begins a little later."""
        self.world.faults["killed"] += 1
        self.life += 1
        self.channel = ""
        self.world.after(self.world.chance.uniform(0.5, 40), self.start)

    def later(self, delay: float, work: Callable[[], None]) -> None:
        """Do it later, if this process still lives."""
        life = self.life
        self.world.after(delay, lambda: work() if self.life == life else None)

    def connect(self, life: int) -> None:
        """Register until the hub has answered."""
        request = ConnectRequest(
            agent_name="agent", instance_id=self.name, incarnation=self.incarnation, concurrency=SLOTS
        )

        def register(ledger: Ledger) -> Any:
            agents.connect(ledger.connection, "me", request, listing="public", now=self.world.steady.now_ms())
            return self.world.instances.connect(ledger, "me", request, AGENT)

        done = self.world.call(register)
        if not isinstance(done, Registration):
            self.later(1.0, lambda: self.connect(life))
            return
        self.registration, self.channel, self.key = done, done.control_channel, done.message_key
        self.beat()

    def hear(self, body: dict[str, Any]) -> None:
        """Take a control message off the bus."""
        _, message = open_signed(body, self.key)
        if isinstance(message, StartTask):
            self.offer(message)
        elif isinstance(message, CancelRun):
            self.cancel((message.task_id, message.epoch), message.reason)

    def cancel(self, key: tuple[str, int], reason: str | None) -> None:
        """Have a run stop, or remember that it is not to start."""
        run = self.running.find(key)
        if run is not None:
            run.cancel(reason)
        else:
            self.dispatcher.cancelled(key, self.world.now)

    def offer(self, offer: StartTask) -> None:
        """Decide about an offer."""
        decision = self.dispatcher.offer(offer, self.world.now)
        if isinstance(decision, Accept):
            self.claim(decision.run, self.world.now + 6.0)
        elif isinstance(decision, Nack):
            self._claims(Claim(task_id=offer.task_id, epoch=offer.epoch, nack=decision.reason))

    def _claims(self, claim: Claim) -> Any:
        return self.world.call(lambda ledger: self.world.tasks.claim(ledger, self.registration.holder, claim))

    def claim(self, run: Run, until: float) -> None:
        """Claim until answered or too late."""
        reply = self._claims(Claim(task_id=run.task_id, epoch=run.epoch))
        if reply is None and self.world.now < until:
            self.later(0.5, lambda: self.claim(run, until))
        elif reply is None or reply.status != 200:
            self.over(run)
        else:
            self.world.leases[run.key].add(self.incarnation)
            run.outbox.open(reply.body.lease, self.world.now)
            run.answer = reply.body
            self.work(run, self.world.chance.randrange(4), cancelled=reply.body.cancel)

    def work(self, run: Run, steps: int, *, cancelled: bool = False) -> None:
        """Be the handler: some events, some time, then an outcome."""
        if not run.outbox.is_open:
            return
        if cancelled or run.is_cancelled:
            run.outbox.finish(Ending("canceled", reason=run.cancel_reason), self.world.now)
        elif steps == 0:
            ending = Ending("failed", error="x") if self.world.chance.random() < 0.2 else Ending("completed")
            run.outbox.finish(ending, self.world.now)
        else:
            run.outbox.append(encode(EventBody(type="progress", message=str(steps))))
            self.later(self.world.chance.uniform(0.01, 6), lambda: self.work(run, steps - 1))
        self.report(run)

    def report(self, run: Run) -> None:
        """Bring the hub what a run has to say until it has answered."""
        taken = run.outbox.take(self.world.now + 1.0, 1 << 20)
        if taken is None:
            return
        report, _ = taken
        reply = self.world.call(lambda ledger: self.world.tasks.report(ledger, self.registration.holder, report))
        if reply is None or reply.status == 422:
            if reply is not None:
                run.outbox.expected(reply.body.expected_n)
            self.later(0.5, lambda: self.report(run))
        elif reply.status != 200 or run.outbox.answered(report):
            self.over(run)
        elif run.outbox.due_at() is not None:
            self.report(run)

    def over(self, run: Run) -> None:
        """Hold a task no more."""
        run.outbox.drop()
        self.running.answered(run.key)
        self.running.slot_back(run)

    def beat(self) -> None:
        """Send a heartbeat and obey its answer."""
        beat = Heartbeat(held=self.running.held_list(), free=self.running.free())
        reply = self.world.call(lambda ledger: self.world.instances.heartbeat(ledger, self.registration.holder, beat))
        if reply is not None and reply.status == 410:
            self.start()
            return
        if reply is not None and isinstance(reply.body, HeartbeatAnswer):
            for fenced in reply.body.fenced:
                run = self.running.find((fenced.task_id, fenced.epoch))
                if run is not None and run.answer is not None:
                    self.over(run)
            for flag in reply.body.cancels:
                self.cancel((flag.task_id, flag.epoch), flag.reason)
            for offer in reply.body.offers:
                self.offer(offer)
        self.later(self.world.chance.uniform(4, 6), self.beat)
