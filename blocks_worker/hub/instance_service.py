"""The verbs of instances: connect, heartbeat, presence, and their end, inside a transaction of the caller."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blocks_worker.hub.answers import Holder, Reply, problem
from blocks_worker.hub.leases import message_key
from blocks_worker.hub.pulses import Pulse, Pulses
from blocks_worker.hub.questions import MOST_TOLD
from blocks_worker.hub.reports import gone, incarnation_unknown
from blocks_worker.hub.store.records import AgentFacts, InstanceRecord
from blocks_worker.protocol.channels import control_channel
from blocks_worker.protocol.control import Drain, Probe, StartTask
from blocks_worker.protocol.instances import INSTANCE_GONE, InstanceState, InstanceTurn, advance_instance
from blocks_worker.protocol.leases import CancelFlag, HeartbeatAnswer, PauseFlag
from blocks_worker.protocol.lifecycle import State
from blocks_worker.protocol.registry import InstanceList, InstanceRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy, SteadyClock
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.hub.task_service import TaskService
    from blocks_worker.protocol.leases import AnswerFlag, ConnectRequest, Heartbeat, Numbers, Process

__all__ = ["AgentFacts", "InstanceService", "Registration"]

#: A task that runs for so long and that two lists in a row lack never came to its worker.
RECONCILE_AFTER_MS = 8_000
#: After so many intervals without a beat (two and the jitter of one) no offers go to an instance.
MISSED_BEATS = 2.5
#: Most offers in one heartbeat answer.
MAX_OFFERS = 256

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registration:
    """What the hub knows of an incarnation that connected."""

    holder: Holder
    control_channel: str
    message_key: str
    hub_time: int


class Seen(NamedTuple):
    """One instance, as the hub sees it; `silence` is how many seconds it was not heard."""

    agent: str
    instance_id: str
    state: str
    slots: int
    silence: float
    streams: int


class InstanceService:
    """Be the door to instances. A heartbeat renews every lease of its instance: leases live with it."""

    def __init__(
        self,
        *,
        tasks: TaskService,
        numbers: Numbers,
        steady: SteadyClock,
        clock: Clock,
        entropy: Entropy,
        secret: bytes,
        is_alive: Callable[[Process], bool | None],
    ) -> None:
        self._tasks = tasks
        self._numbers = numbers
        self._steady = steady
        self._entropy = entropy
        self._secret = secret
        self._is_alive = is_alive
        self._pulses = Pulses(clock)
        #: Heartbeats, since the start.
        self.beats = 0

    # -------------------------------------------------------------------------------------------- connect
    def connect(self, ledger: Ledger, owner: str, request: ConnectRequest, agent: AgentFacts) -> Registration | Reply:
        """Take in a process life, the same one again when it asks again; the older one of its name is over."""
        known = ledger.instance(request.incarnation)
        if known is not None:
            return self._again(owner, request, known)
        if self._pulses.is_flapping((owner, request.instance_id)):
            text = f"several processes run as {request.instance_id!r}: stop all but one, or give each its own name"
            return problem(403, "Quarantined", text)
        for older in ledger.instances(owner=owner, instance_id=request.instance_id):
            self._end(ledger, older, InstanceTurn.SUPERSEDE)
        row = self._record(owner, request, agent)
        ledger.insert_instance(row)
        self._pulses.beat(row.incarnation, row.connected_at)
        return self._registration(row)

    def _again(self, owner: str, request: ConnectRequest, known: InstanceRecord) -> Registration | Reply:
        if (known.owner, known.instance_id, known.agent) != (owner, request.instance_id, request.agent_name):
            return problem(400, "InvalidInput", "this incarnation is in use: draw a new one")
        return gone(known) or self._registration(known)

    def _record(self, owner: str, request: ConnectRequest, agent: AgentFacts) -> InstanceRecord:
        now = self._steady.now_ms()
        process = request.process
        return InstanceRecord(
            agent_id=self._entropy.name(12),
            incarnation=request.incarnation,
            owner=owner,
            instance_id=request.instance_id,
            agent=agent.name,
            billing_mode=agent.billing_mode,
            state=InstanceState.REGISTERING.value,
            concurrency=request.concurrency,
            started_at=request.started_at or now,
            connected_at=now,
            last_seen=now,
            host=None if process is None else process.host,
            pid=None if process is None else process.pid,
            process_started=None if process is None else process.started,
            ended=None,
        )

    def _registration(self, row: InstanceRecord) -> Registration:
        return Registration(
            Holder(row.agent_id, row.agent, row.instance_id, row.incarnation, row.owner),
            control_channel(row.agent_id),
            message_key(self._secret, row.incarnation),
            self._steady.now_ms(),
        )

    # -------------------------------------------------------------------------------------------- heartbeat
    def heartbeat(self, ledger: Ledger, holder: Holder, beat: Heartbeat) -> Reply:
        """Renew what the instance holds, compare its list with the ledger, and tell it all flags again."""
        self.beats += 1
        row = ledger.instance(holder.incarnation)
        refusal = gone(row)
        if row is None or refusal is not None:
            if row is not None and row.state == InstanceState.SUPERSEDED.value:
                self._pulses.spoke_again((row.owner, row.instance_id), row.incarnation)
            return refusal or incarnation_unknown()
        self._tasks.granted.heard((held.task_id, held.epoch) for held in beat.held)
        pulse = self._pulses.beat(row.incarnation, self._steady.now_ms())
        pulse.active_streams, pulse.key, pulse.sdk_version = beat.active_streams, holder.key, beat.sdk_version
        if beat.stopped:
            self._end(ledger, row, InstanceTurn.STOP)
            return Reply(200, HeartbeatAnswer(hub_time=self._steady.now_ms(), nonce=""))
        well = InstanceTurn.STRAINED if beat.degraded else InstanceTurn.BEAT
        self._stand(ledger, row, (InstanceTurn.DRAIN,) if beat.draining else (InstanceTurn.PROVED, well))
        self._park(ledger, row, beat)
        self._tasks.dispatch.route_now(ledger, row.agent)
        mine = self._reconcile(ledger, row, pulse, beat)
        return Reply(200, self._answer(ledger, row, beat, mine))

    def _park(self, ledger: Ledger, row: InstanceRecord, beat: Heartbeat) -> None:
        """Take over which runs take no slot: what waits for its resume, and pipes whose handlers have returned."""
        parked = {(held.task_id, held.epoch): held.parked for held in beat.held}
        for task in ledger.tasks_of(row.incarnation):
            flag = parked.get((task.id, task.epoch), bool(task.parked))
            if task.is_held and flag is not bool(task.parked):
                ledger.park(task, row.incarnation, flag=flag)

    def _reconcile(self, ledger: Ledger, row: InstanceRecord, pulse: Pulse, beat: Heartbeat) -> list[TaskRecord]:
        """Take back what the ledger gave the instance and two of its lists in a row lack; return the rest."""
        mine = ledger.tasks_of(row.incarnation)
        listed = {(held.task_id, held.epoch) for held in beat.held}
        since = self._steady.now_ms() - RECONCILE_AFTER_MS
        lacking = {
            (task.id, task.epoch)
            for task in mine
            if task.is_held and (task.leased_at or 0) <= since and (task.id, task.epoch) not in listed
        }
        unknown = pulse.count_missing(lacking)
        if not unknown:
            return mine
        for task in mine:
            if (task.id, task.epoch) in unknown:
                self._tasks.turns.take_back(ledger, task, row.incarnation)
        self._tasks.dispatch.route_now(ledger, row.agent)
        return [task for task in mine if (task.id, task.epoch) not in unknown]

    def _answer(self, ledger: Ledger, row: InstanceRecord, beat: Heartbeat, mine: list[TaskRecord]) -> HeartbeatAnswer:
        nonce = self._entropy.name(8)
        self._tasks.bell.ring(ledger, row, Probe(nonce=nonce))
        known = {(task.id, task.epoch) for task in mine}
        offered = [task for task in mine if task.state == State.OFFERED.value]
        return HeartbeatAnswer(
            hub_time=self._steady.now_ms(),
            nonce=nonce,
            # Without the input, which the claim brings: nearly all of these came by the bus already.
            offers=[StartTask(task_id=one.id, epoch=one.epoch, digest=one.digest) for one in offered[:MAX_OFFERS]],
            cancels=[
                CancelFlag(task_id=one.id, epoch=one.epoch, reason=one.reason)
                for one in mine
                if one.state == State.CANCELLING.value
            ],
            expires=[
                CancelFlag(task_id=one.id, epoch=one.epoch, reason=one.reason)
                for one in mine
                if one.state == State.EXPIRING.value
            ],
            pauses=[
                PauseFlag(task_id=one.id, epoch=one.epoch, pause=bool(one.pause), pause_seq=one.pause_seq)
                for one in mine
                if one.is_held and one.pause_seq > 0
            ],
            answers=self._answers(ledger, mine, beat),
            fenced=[held for held in beat.held if (held.task_id, held.epoch) not in known],
            # It was asked to, and has not heard it yet.
            drain=row.state == InstanceState.DRAINING.value and not beat.draining,
        )

    def _answers(self, ledger: Ledger, mine: list[TaskRecord], beat: Heartbeat) -> list[AnswerFlag]:
        """Return what was answered to the questions for whose answers runs of this list wait."""
        rows = {(one.id, one.epoch): one for one in mine}
        waits = [(rows.get((held.task_id, held.epoch)), held.asks) for held in beat.held if held.asks is not None]
        told = [self._tasks.questions.told(ledger, row, [ask]) for row, ask in waits if row is not None]
        return [flag for flags in told for flag in flags][:MOST_TOLD]

    # -------------------------------------------------------------------------------------------- turned out
    def drain(self, ledger: Ledger, owner: str | None, instance_id: str, reason: str | None) -> InstanceList:
        """Ask instances of this name to finish what they have and end; `owner`: only his. Return them as they are then.

        Nothing is offered to one from here on; the ledger keeps that it was asked, and each heartbeat's answer says it.
        """
        rows = ledger.instances(owner=owner, instance_id=instance_id)
        for row in rows:
            self._stand(ledger, row, (InstanceTurn.DRAIN,))
            self._tasks.bell.ring(ledger, row, Drain(reason=reason))
        rows = ledger.instances(owner=owner, instance_id=instance_id)
        processes = [row.process for row in rows if row.process is not None]
        return InstanceList(instances=[self._shown(ledger, row) for row in rows], processes=processes)

    def end_of_key(self, ledger: Ledger, key: str) -> None:
        """End the instances that spoke under this API key.

        One that was not heard since the hub began is not known by its key; it ends by its silence.
        """
        for row in ledger.instances():
            if self._pulses.of(row.incarnation).key == key:
                self._end(ledger, row, InstanceTurn.STOP)

    def end_of_agent(self, ledger: Ledger, agent: str) -> None:
        """End every instance of this agent."""
        for row in ledger.instances(agent=agent):
            self._end(ledger, row, InstanceTurn.STOP)

    def end_of_all(self, ledger: Ledger) -> None:
        """End every instance, and what it was given at no cost: its leases are of another life of this ledger."""
        for row in ledger.instances():
            for task in ledger.tasks_of(row.incarnation):
                if task.is_held:
                    self._tasks.turns.take_back(ledger, task, row.incarnation)
            self._end(ledger, row, InstanceTurn.SILENT)

    # -------------------------------------------------------------------------------------------- presence
    def instances(self, ledger: Ledger, agent_name: str) -> list[InstanceRow]:
        """Return the instances of an agent that are not gone, with what they run by the hub's own count."""
        return [self._shown(ledger, row) for row in ledger.instances(agent=agent_name)]

    def _shown(self, ledger: Ledger, row: InstanceRecord) -> InstanceRow:
        pulse = self._pulses.of(row.incarnation)
        return InstanceRow(
            instance_id=row.instance_id,
            agent_name=row.agent,
            state=pulse.appearance.told(row.state),
            active_tasks=sum(task.is_held for task in ledger.tasks_of(row.incarnation)),
            concurrency=row.concurrency,
            started_at=row.started_at,
            last_seen=max(row.last_seen, pulse.heard_ms),
            active_streams=pulse.active_streams,
            sdk_version=pulse.sdk_version or None,
        )

    def seen(self, ledger: Ledger) -> list[Seen]:
        """Return how every instance that is not gone does, the oldest first."""
        return [
            Seen(
                agent=row.agent,
                instance_id=row.instance_id,
                state=self._pulses.of(row.incarnation).appearance.told(row.state),
                slots=row.concurrency,
                silence=self._pulses.silence(row.incarnation),
                streams=self._pulses.of(row.incarnation).active_streams,
            )
            for row in ledger.instances()
        ]

    # -------------------------------------------------------------------------------------------- silence
    def stood_still(self) -> None:
        """Count every instance as heard now: the hub itself heard nobody for a while."""
        self._pulses.begin_again()

    def check(self, ledger: Ledger, row: InstanceRecord) -> None:
        """End an instance whose process is gone or that is silent for too long; offer nothing to one that missed."""
        numbers = self._numbers
        silence = self._pulses.silence(row.incarnation)
        dead = self._is_dead(row)
        if dead or silence > numbers.lease_ttl + numbers.lease_grace:
            _logger.info("instance_lost", extra={"instance": row.instance_id, "agent": row.agent, "dead": dead})
            self._end(ledger, row, InstanceTurn.SILENT)
            ledger.counted("instances_lost")
        elif silence > MISSED_BEATS * numbers.heartbeat_interval:
            self._stand(ledger, row, (InstanceTurn.MISSED,))
        else:
            self.see(row)

    def is_well(self, row: InstanceRecord) -> bool:
        """Tell whether an instance is there and was heard; any thread may ask."""
        numbers = self._numbers
        most = min(MISSED_BEATS * numbers.heartbeat_interval, numbers.lease_ttl + numbers.lease_grace)
        return self._pulses.silence(row.incarnation) <= most and not self._is_dead(row)

    def see(self, row: InstanceRecord) -> None:
        """Take note how an instance stands that is well."""
        self._pulses.see(row.incarnation, row.state)

    def _is_dead(self, row: InstanceRecord) -> bool:
        return row.process is not None and self._is_alive(row.process) is False

    def _stand(self, ledger: Ledger, row: InstanceRecord, turns: tuple[InstanceTurn, ...]) -> None:
        state = InstanceState(row.state)
        for turn in turns:
            state = advance_instance(state, turn)
        self._pulses.see(row.incarnation, state.value)
        if state.value != row.state:
            seen = max(row.last_seen, self._pulses.of(row.incarnation).heard_ms)
            ledger.set_instance(row.incarnation, state=state.value, last_seen=seen)

    def _end(self, ledger: Ledger, row: InstanceRecord, turn: InstanceTurn) -> None:
        """End an instance and every right it has on a task; what it had is offered to others at once."""
        state = advance_instance(InstanceState(row.state), turn)
        if state not in INSTANCE_GONE:
            raise RuntimeError(f"an instance that is {row.state} does not end by {turn.value}")
        seen = max(row.last_seen, self._pulses.of(row.incarnation).heard_ms)
        ledger.set_instance(row.incarnation, state=state.value, ended=self._steady.now_ms(), last_seen=seen)
        had = ledger.tasks_of(row.incarnation)
        told = {"agent": row.agent, "instance": row.instance_id, "incarnation": row.incarnation, "tasks": len(had)}
        ledger.noted("instance_ended", owner=row.owner, state=state.value, **told)
        for task in had:
            self._tasks.turns.lose(ledger, task, row.incarnation)
        self._pulses.forget(row.incarnation)
        self._tasks.dispatch.forget(row.incarnation)
        self._tasks.dispatch.route(ledger, row.agent)
