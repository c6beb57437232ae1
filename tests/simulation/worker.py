"""One process life of a worker: the shipped dispatcher, table, publisher, endings, limits and beat, moved by the heap.

What the worker's threads do around these parts - claim again, run a handler, beat, connect - is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.consumer import OWNER
from simulation.heap import Owner
from simulation.run import Runs
from simulation.story import SLOTS, WORKERS
from support import SeededEntropy

from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import HubUnavailableError
from blocks_worker.hub.instance_service import AgentFacts, Registration
from blocks_worker.hub.store import agents
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.leases import (
    Claim,
    ClaimAnswer,
    ConnectAnswer,
    ConnectRequest,
    HeartbeatAnswer,
    Numbers,
    Process,
    ReportAnswer,
)
from blocks_worker.protocol.tasks import Problem
from blocks_worker.transports.base import Message
from blocks_worker.worker.asking import Asking
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.dispatcher import Dispatcher
from blocks_worker.worker.drain import Drain
from blocks_worker.worker.endings import Endings
from blocks_worker.worker.heartbeat import Beat, Orders
from blocks_worker.worker.hooks import Hooks
from blocks_worker.worker.intake import Intake
from blocks_worker.worker.listener import Ears, Listener
from blocks_worker.worker.middleware.time_limit import TimeLimit
from blocks_worker.worker.pipes import Pipes
from blocks_worker.worker.publisher import Publisher
from blocks_worker.worker.run import Ending
from blocks_worker.worker.running import Running
from blocks_worker.worker.spool import Spool
from blocks_worker.worker.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.network import Answers
    from simulation.world import World

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Reply
    from blocks_worker.worker.run import Run

AGENT = AgentFacts(
    name="agent",
    owner=OWNER.owner,
    billing_mode="free",
    listing="public",
    max_pending_backlog=1000,
    max_running_time_sec=3600,
    delivery="at_least_once",
)
_UNANSWERED = HubUnavailableError("test://hub", "nothing answered")


class Life(Owner):
    """Be one process from its start to its death or its drain."""

    def __init__(self, world: World, name: str, pid: int, ended: Callable[[], None]) -> None:
        self.world, self.name, self.pid = world, name, pid
        self._ended = ended
        self._lives = 0
        self.running, self.standing, self.counters = Running(SLOTS), Standing(), Counters()
        self.dispatcher = Dispatcher(self.running)
        self._make_parts()
        self._registration: Registration | None = None
        self._is_sending = False
        self._beats = 0
        self._channel = ""
        self._renew()
        self._connect()

    def _make_parts(self) -> None:
        clock, entropy = self.world.heap.clock, SeededEntropy(self.pid)
        self.endings = Endings(
            decide=self._decide,
            running=self.running,
            dispatcher=self.dispatcher,
            hooks=lambda: self.hooks,
            clock=clock,
            counters=self.counters,
        )
        self.publisher = Publisher(
            None,  # type: ignore[arg-type]  # its thread, which would call, is not started
            heard=self.endings,
            nack=lambda _nacks: None,
            clock=clock,
            entropy=entropy,
            counters=self.counters,
            spool=Spool(None, incarnation=lambda: self.incarnation, unanswered=lambda _keys: [], clock=clock),
        )
        limit = TimeLimit(
            deadlines=_Moments(self),  # type: ignore[arg-type]  # the same two verbs on the heap
            executor=_Threads(),  # type: ignore[arg-type]  # threads here are given up freely
            running=self.running,
            end=self.endings.end,
            run_out=self.endings.run_out,
            clock=clock,
            counters=self.counters,
        )
        self.pipes = Pipes(
            running=self.running,
            end_streams=lambda _run, _timeout: None,
            end=self.endings.end,
            parked=self.wake,
            clock=clock,
            spawn=lambda _name, work: self.later(0.01, lambda: self._done(work)),
        )
        self.hooks = Hooks([limit, self.pipes])
        self.runs = Runs(self)
        self.intake = Intake(
            self.dispatcher,
            begin=self.runs.begin,
            refuse=self._refuse,
            clock=clock,
            counters=self.counters,
        )
        orders = Orders(
            offer=self.intake.offer,
            cancel=self.endings.cancel,
            expire=self.endings.expire,
            pause=self.endings.paused,
            answer=self.endings.answered_ask,
            fence=self.endings.fenced,
            drain=lambda: None,
            rebuild=lambda _reason: None,
        )
        self.beat = Beat(
            None,  # type: ignore[arg-type]  # the exchange goes over the simulated network
            running=self.running,
            standing=self.standing,
            orders=orders,
            clock=clock,
            counters=self.counters,
        )
        ears = Ears(
            offer=self.intake.offer,
            withdraw=self._withdrawn,
            cancel=self.endings.cancel,
            expire=self.endings.expire,
            pause=self.endings.paused,
            answer=self.endings.answered_ask,
            probe=self._probed,
            drain=lambda: None,
            reconcile=lambda: None,
        )
        self.asking = Asking(
            running=self.running,
            pauses=None,  # type: ignore[arg-type]  # who waits here is no thread
            close=self.publisher.close_ask,
            clock=clock,
        )
        self.listener = Listener(ears, self.counters)

    def _decide(self, run: Run, ending: Ending, leave: Callable[[Run], None] | None) -> bool:
        return self.publisher.end(run, ending, leave)

    def _done(self, work: Callable[[], None]) -> None:
        """Do what a thread of its own would do, and send what comes of it."""
        work()
        self.pump()

    def wake(self) -> None:
        """Beat now, as what takes no slot any more calls for."""
        if self._registration is not None:
            self._beats += 1
            turn = self._beats
            self.later(0.001, lambda: self._exchange(turn))

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.world.heap.now

    def later(self, delay: float, work: Callable[[], object]) -> None:
        """Do it later, if this process still lives."""
        self.world.heap.after(delay, work, self)

    def call(self, what: str, works: list[Callable[[Ledger], Any]], then: Callable[[Answers], None]) -> None:
        """Call the hub as this process."""
        self.world.network.call(f"{what} {self.incarnation}", works, then, self)

    # ------------------------------------------------------------------ presence
    def _renew(self) -> None:
        self._lives += 1
        self.incarnation = f"{self.name}.{self.pid}.{self._lives}"

    def _connect(self) -> None:
        request = ConnectRequest(
            agent_name=AGENT.name,
            instance_id=self.name,
            incarnation=self.incarnation,
            concurrency=SLOTS,
            expected_instances=0 if self.world.story.is_broadcast else WORKERS,
            concurrency_limit=self.world.story.limit,
            process=Process(host="here", pid=self.pid, started="1"),
        )
        begun, world = self.now, self.world

        def register(ledger: Ledger) -> Any:
            agents.connect(
                ledger.connection, OWNER.owner, request, listing="public", now=world.hub.tasks.turns.now_ms()
            )
            return world.hub.instances.connect(ledger, OWNER.owner, request, AGENT)

        def then(answers: Answers) -> None:
            done = answers[0] if answers else None
            if isinstance(done, Registration):
                self._connected(done, begun)
                return
            if done is not None and done.status == 410:
                self._forgotten(done.body.code)
            else:
                self.later(1.0, self._connect)

        self.call("connect", [register], then)

    def _connected(self, done: Registration, begun: float) -> None:
        self._registration = done
        answer = ConnectAnswer(
            access_token="",
            refresh_token="",
            expires_in=3600,
            pam_token="",
            pam_expires_in=3600,
            agent_id=done.holder.agent_id,
            control_channel=done.control_channel,
            message_key=done.message_key,
            numbers=Numbers(),
            hub_time=done.hub_time,
        )
        self.standing.connected(answer, begun)
        self.listener.rekey(done.message_key)
        self.beat.restart()
        self._channel = done.control_channel
        self.world.network.listen(done.control_channel, self._hear)
        self._beats += 1
        self._exchange(self._beats)

    def _hear(self, body: dict[str, Any]) -> None:
        # Held back with the process while it is stopped, and lost when it is gone.
        self.later(0.0, lambda: self.listener._guarded(Message("control", body, 0)))

    def _withdrawn(self, key: tuple[str, int]) -> None:
        self.endings.withdrawn(key)
        self.pump()

    def _probed(self, nonce: str) -> None:
        self.beat.heard(nonce)

    def _exchange(self, turn: int) -> None:
        """Send a heartbeat, obey its answer, and send the next; a new registration begins a new turn."""
        if turn != self._beats:
            return
        begun, holder, world = self.now, self.holder, self.world
        beat = decode_trusted(type(sent := self.beat._message(None, stopped=False)), encode(sent))

        def then(answers: Answers) -> None:
            reply = answers[0] if answers else None
            if reply is not None and reply.status == 410:
                self._forgotten(reply.body.code)
                return
            if reply is not None:
                answer = decode_trusted(HeartbeatAnswer, encode(reply.body))
                self.standing.trust.renewed(begun)
                self.standing.heard(answer.hub_time, begun)
                self.beat._obey(answer)
                self.pump()
            pause = 5.0 if reply is not None else 1.0
            jitter = self.world.story.between(0.8, 1.2, self.incarnation, "beat", round(self.now, 3))
            self.later(pause * jitter, lambda: self._exchange(turn))

        self.call("heartbeat", [lambda ledger: world.hub.instances.heartbeat(ledger, holder, beat)], then)

    def _forgotten(self, code: str) -> None:
        """Drop everything and begin anew, unless a newer process has this name or this one is leaving."""
        self._beats += 1
        self.endings.fence_all()
        self.pump()
        if code == "Superseded" or self.beat.draining:
            self.end()
            return
        self._renew()
        self._connect()

    @property
    def holder(self) -> Any:
        """Who this process is to the hub."""
        assert self._registration is not None
        return self._registration.holder

    # ------------------------------------------------------------------ reports
    def _refuse(self, claim: Claim) -> None:
        self.publisher.refuse(claim)
        self.pump()

    def pump(self) -> None:
        """Do what the publisher's thread does: send what is due, one request at a time."""
        if self._is_sending or self._registration is None:
            return
        publisher, now = self.publisher, self.now
        nacks = publisher._refusals.take()
        world, holder = self.world, self.holder
        if nacks:
            claims = [lambda ledger, one=one: world.hub.tasks.claim(ledger, holder, one) for one in nacks]
            self.call("nack", claims, lambda _answers: None)
        batch = publisher._boxes.gather(now) if now >= publisher._repeats.not_before else []
        if batch:
            self._is_sending = True
            items = [decode_trusted(type(report), encode(report)) for _, report in batch]
            works = [lambda ledger, item=item: self.world.reported(ledger, holder, item) for item in items]
            returns = publisher._repeats.returns
            self.call("reports", works, lambda answers: self._reported(batch, answers, returns))
            return
        dues = publisher._boxes.dues()
        if dues:
            self.later(max(0.01, max(min(dues), publisher._repeats.not_before) - now), self.pump)

    def _reported(self, batch: list[Any], answers: Answers, returns: int) -> None:
        self._is_sending = False
        self.publisher._boxes.sent(batch)
        if answers is None:
            self.publisher._failed(_UNANSWERED, len(batch), returns)
        else:
            self.publisher._recovered()
            for (outbox, report), reply in zip(batch, answers, strict=True):
                self.publisher._apply(outbox, report, result_of(reply, ReportAnswer))
        self.pump()

    # ------------------------------------------------------------------ the end
    def drain(self, seconds: float) -> None:
        """Take nothing new; ask what still runs to stop, give it back, say farewell and end."""
        if self.beat.draining or self._registration is None:
            return
        self.dispatcher.close()
        self.beat.draining = True
        self.asking.drain()
        self.later(seconds, self._stop_runs)
        self.later(seconds + Drain.GRACE, self._give_back)
        self.later(seconds + Drain.GRACE + 3.0, self._farewell)

    def _stop_runs(self) -> None:
        for run in (*self.running.busy(), *self.running.waiting()):
            run.give_back()
        for run in self.running.open_pipes():
            if run.give_back():
                self.pipes.give_back(run)

    def _give_back(self) -> None:
        for run in self.running.held():
            if run.ending is None:
                self.endings.end(run, Ending("released"))
        self.pump()

    def _farewell(self) -> None:
        holder, world = self.holder, self.world
        beat = self.beat._message(None, stopped=True)
        work = [lambda ledger: world.hub.instances.heartbeat(ledger, holder, beat)]
        self.call("farewell", work, lambda _answers: self.end())

    def end(self) -> None:
        """Be no process any more."""
        if not self.is_gone:
            self.is_gone = True
            self._ended()
            # The hub notices the end of its link at once, or up to five seconds late.
            world, channel = self.world, self._channel
            world.heap.after(world.story.between(0, 5, "link", self.incarnation), lambda: world.hub.link_ended(channel))


class _Moment:
    """One moment; called off by forgetting its act."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act


class _Moments:
    """Be the deadlines of a process, on the heap."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def at(self, moment: float, act: Callable[[], object]) -> _Moment:
        """Call `act` at that moment."""
        entry = _Moment(act)

        def work() -> None:
            if entry.act is not None:
                entry.act()
                self._life.pump()

        self._life.later(max(0.0, moment - self._life.now), work)
        return entry

    def call_off(self, entry: _Moment) -> None:
        """Do not call it."""
        entry.act = None


class _Threads:
    """Be the executor as far as limits need it."""

    def abandon(self, _run: object) -> bool:
        """Give up a thread; another always takes its place."""
        return True


def result_of(reply: Reply, kind: type[ReportAnswer | ClaimAnswer]) -> ItemResult[Any]:
    """Return an answer as the worker's own caller of the hub would."""
    if isinstance(reply.body, Problem):
        return ItemResult(reply.status, None, reply.body)
    wanted = kind if kind is ReportAnswer or reply.status == 200 else ReportAnswer
    return ItemResult(reply.status, decode_trusted(wanted, encode(reply.body)), None)
