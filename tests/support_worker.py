"""A hub in this process for tests of the worker: the real ledger and services, without HTTP and without a network.

It stands at the seams `Login`, `WorkApi` and `Transport`; nothing of the hub or worker is imitated.
"""

# ruff: noqa: ARG002 - the arguments are those of the seams

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import update
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline, Entropy, SteadyClock
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import HubUnavailableError, RpcError, TransportClosedError
from blocks_worker.handlers.base import Handler
from blocks_worker.hub.instance_service import InstanceService, Registration
from blocks_worker.hub.store import agents
from blocks_worker.hub.store.schema import task
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.task_service import Consumer, Reply, TaskService
from blocks_worker.protocol.codec import MAX_BODY, decode_trusted, encode
from blocks_worker.protocol.leases import (
    Claim,
    ClaimAnswer,
    ConnectAnswer,
    ConnectRequest,
    Heartbeat,
    HeartbeatAnswer,
    LateReport,
    Numbers,
    Report,
    ReportAnswer,
)
from blocks_worker.protocol.steps import StepsAnswer
from blocks_worker.protocol.tasks import AnswerTask, CancelTask, EventsQuery, PauseTask, Problem, SubmitTask, TaskRow
from blocks_worker.transports.base import Link, Message, Received, Status
from blocks_worker.worker.worker import Worker, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.transaction import Publication
    from blocks_worker.protocol.files import RequestUpload, UploadOffer
    from blocks_worker.protocol.streams import GrantedStream, StreamName
    from blocks_worker.streams.exchange import StreamExchange

T = TypeVar("T")

OWNER = Consumer("tester", None)
#: Short, so that tests need not wait; the proportions are those of the defaults.
NUMBERS = Numbers(
    heartbeat_interval=0.3, lease_ttl=6.0, lease_margin=1.0, lease_grace=1.0, cancel_grace=1.0, expire_grace=1.0
)


class Ear:
    """A subscription in memory."""

    def __init__(self, bus: Bus, channels: Iterable[str]) -> None:
        self._bus = bus
        self.channels = set(channels)
        self.waiting: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self.waiting.put(Status(Link.CONNECTED))

    def receive(self, timeout: float | None = None) -> Sequence[Received]:
        """Return what waits."""
        try:
            item = self.waiting.get(timeout=timeout)
        except queue.Empty:
            return []
        if item is None:
            raise TransportClosedError("closed")
        return [item]

    def commit(self, position: int) -> None:
        """There is nothing to come back to."""

    def set_channels(self, channels: Iterable[str]) -> None:
        """Listen to these."""
        self.channels = set(channels)

    def close(self, deadline: Deadline) -> None:
        """End."""
        self._bus.ears = [ear for ear in self._bus.ears if ear is not self]
        self.waiting.put(None)


class Bus:
    """A transport in memory; `deaf` loses every message, `hold` keeps them back."""

    def __init__(self) -> None:
        self.ears: list[Ear] = []
        self.deaf = False
        self.rebuilt: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self._position = 0

    def publish(self, channel: str, messages: Sequence[dict[str, Any]], deadline: Deadline) -> None:
        """Hand the messages to the ears."""
        for body in messages:
            self._position += 1
            self.heard.append(body)
            for ear in [] if self.deaf else self.ears:
                if channel in ear.channels:
                    ear.waiting.put(Message(channel, body, self._position))

    def subscribe(self, channels: Iterable[str]) -> Ear:
        """Return a new ear."""
        ear = Ear(self, channels)
        self.ears.append(ear)
        return ear

    def rebuild(self, reason: str) -> None:
        """Note the reason, and hear again."""
        self.rebuilt.append(reason)
        self.deaf = False


class Line:
    """One worker's transport to the bus: closing it leaves the others alone."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ears: list[Ear] = []
        self.publish = bus.publish
        self.rebuild = bus.rebuild

    def subscribe(self, channels: Iterable[str]) -> Ear:
        """Return a new ear."""
        self._ears.append(self._bus.subscribe(channels))
        return self._ears[-1]

    def close(self, deadline: Deadline) -> None:
        """End this worker's ears."""
        for ear in self._ears:
            ear.close(deadline)


class LedgerInProcess:
    """The real services on SQLite in memory."""

    def __init__(self, *, numbers: Numbers = NUMBERS) -> None:
        clock, entropy = Clock(), Entropy()
        self.numbers = numbers
        self.steady = SteadyClock(clock)
        self.bus = Bus()
        self.store = Store(None, clock=clock, on_commit=self._say)
        self.tasks = TaskService(numbers=numbers, steady=self.steady, entropy=entropy, secret=b"s" * 32)
        self.instances = InstanceService(
            tasks=self.tasks,
            numbers=numbers,
            steady=self.steady,
            clock=clock,
            entropy=entropy,
            secret=b"s" * 32,
            is_alive=lambda _process: None,
        )
        self.sweeper = Sweeper(tasks=self.tasks, instances=self.instances)

    def __enter__(self) -> Self:
        self.store.open()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.store.close(Deadline(5))

    def write(self, work: Callable[[Ledger], T]) -> T:
        """Do it in a transaction."""
        return self.store.write(work).result(30)

    def submit(self, text: str = "hi", *, agent: str = "echo", **fields: Any) -> str:
        """Submit a task with one part of text; return its id."""
        parts = msgspec.Raw(encode([{"partId": "p1", "text": text}]))
        request = SubmitTask(agent_name=agent, request_parts=parts, **fields)
        reply = self.write(lambda ledger: self.tasks.submit(ledger, OWNER, request))
        assert reply.status in (200, 201), reply
        return str(reply.body.task_id)  # type: ignore[attr-defined]  # a SubmitAnswer, by its status

    def cancel(self, task_id: str, reason: str | None = None, *, terminated: bool = False) -> int:
        """Cancel a task; return the status."""
        request = CancelTask(reason=reason, terminated=terminated)
        return self.write(lambda ledger: self.tasks.cancel(ledger, OWNER, task_id, request)).status

    def pause(self, task_id: str, *, on: bool = True) -> int:
        """Pause a task, or resume it; return the status."""
        request = PauseTask(pause_seq=self.row(task_id).pause_seq)
        return self.write(lambda ledger: self.tasks.pause(ledger, OWNER, task_id, request, on=on)).status

    def answer(self, task_id: str, value: object, ask_id: str = "ask-1") -> Reply:
        """Answer the question of a task."""
        request = AnswerTask(ask_id=ask_id, value=msgspec.Raw(encode(value)))
        return self.write(lambda ledger: self.tasks.answer(ledger, OWNER, task_id, request))

    def asking(self, task_id: str) -> None:
        """Wait until a task has a question open."""
        wait_until(lambda: self.row(task_id).state == "input-required", what=f"the question of {task_id}")

    def expires_in(self, task_id: str, seconds: float) -> None:
        """Let the time of a pipe that has no lease yet be over then: the least that can be asked for is a minute."""
        moment = self.steady.now_ms() + int(seconds * 1000)
        change = update(task).where(task.c.id == task_id).values(expires_at=moment)
        self.write(lambda ledger: ledger.connection.execute(change).rowcount)

    def row(self, task_id: str) -> TaskRow:
        """Return a task's row."""
        reply = self.store.read(lambda ledger: self.tasks.get(ledger, OWNER, task_id))
        assert isinstance(reply.body, TaskRow)
        return reply.body

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """Return a task's stored events."""
        reply = self.store.read(lambda ledger: self.tasks.events(ledger, OWNER, EventsQuery(task_id=task_id)))
        return [json.loads(bytes(raw)) for raw in reply.body.events]  # type: ignore[attr-defined]  # an EventsAnswer

    def ended(self, task_id: str, timeout: float = 30.0) -> TaskRow:
        """Wait for the end of a task and return its row."""
        ends = {"completed", "failed", "canceled"}
        wait_until(lambda: self.row(task_id).state in ends, timeout, f"the end of {task_id}")
        return self.row(task_id)

    def running(self, task_id: str, timeout: float = 30.0) -> None:
        """Wait until a worker has the lease."""
        wait_until(lambda: self.row(task_id).state == "running", timeout, f"the start of {task_id}")

    def sweep(self) -> None:
        """Sweep once."""
        self.write(self.sweeper.sweep)

    def connect(self, request: ConnectRequest) -> Registration:
        """Register."""

        def work(ledger: Ledger) -> Registration | Reply:
            agents.connect(ledger.connection, OWNER.owner, request, listing="public", now=self.steady.now_ms())
            facts = ledger.agent(request.agent_name)
            assert facts is not None
            return self.instances.connect(ledger, OWNER.owner, request, facts)

        done = self.write(work)
        if isinstance(done, Reply):
            raise _refusal(done)
        return done

    def _say(self, said: list[Publication]) -> None:
        for one in said:
            self.bus.publish(one.channel, [json.loads(one.message)], Deadline(1))


class InProcessLogin:
    """One instance's login at the ledger, and the calls it makes; faults are switched on by attribute.

    Attributes:
        cut: nothing reaches the hub.
        lose_replies: so many next calls are carried out, but their answers are lost.
        refuse: raised by the next connect.
        max_body: bytes of a batch over which the hub refuses it whole.
    """

    def __init__(self, hub: LedgerInProcess, *, agent: str = "echo", instance: str = "one", slots: int = 1) -> None:
        self._hub = hub
        self._request = ConnectRequest(
            agent_name=agent, instance_id=instance, incarnation=Entropy().name(8), concurrency=slots
        )
        self._registration: Registration | None = None
        self.cut = threading.Event()
        self.lose_replies = 0
        self.refuse: BaseException | None = None
        self.max_body = MAX_BODY
        self.connects = 0
        self.calls: list[tuple[str, int]] = []
        self.beats: list[Heartbeat] = []

    @property
    def api(self) -> InProcessLogin:
        """The calls."""
        return self

    @property
    def incarnation(self) -> str:
        """The name of this process life."""
        return self._request.incarnation

    def connect(self) -> ConnectAnswer:
        """Register."""
        self._reach("connect", 1)
        if self.refuse is not None:
            raise self.refuse
        self.connects += 1
        done = self._registration = self._hub.connect(self._request)
        return ConnectAnswer(
            access_token="a",
            refresh_token="r",
            expires_in=3600,
            pam_token="p",
            pam_expires_in=3600,
            agent_id=done.holder.agent_id,
            control_channel=done.control_channel,
            message_key=done.message_key,
            numbers=self._hub.numbers,
            hub_time=done.hub_time,
        )

    def report_late(self, items: Sequence[LateReport], *, timeout: float) -> list[ItemResult[ReportAnswer]]:
        """Say what processes that died had to say."""
        self._reach("late", len(items))
        copies = [decode_trusted(LateReport, encode(item)) for item in items]
        works = [lambda ledger, item=item: self._hub.tasks.report_late(ledger, OWNER.owner, item) for item in copies]
        about = [item.report.task_id for item in copies]
        replies = self._hub.store.write_many(works, about).result(30)
        self._answer()
        return [_item(reply, ReportAnswer) for reply in replies]

    def renew_incarnation(self) -> None:
        """Take a new name."""
        self._request = msgspec.structs.replace(self._request, incarnation=Entropy().name(8))

    def start(self) -> None:
        """Tokens in this process live for ever."""

    def close(self, deadline: Deadline) -> None:
        """There is no thread."""

    def token(self) -> str | None:
        """None is asked for."""
        return None

    def refresh(self, refused: str | None) -> bool:
        """There is no other."""
        return False

    def claims(self, items: Sequence[Claim], *, timeout: float) -> list[ItemResult[ClaimAnswer]]:
        """Claim."""
        return self._batch("claims", items, self._hub.tasks.claim, ClaimAnswer)

    def reports(self, items: Sequence[Report], *, timeout: float) -> list[ItemResult[ReportAnswer]]:
        """Report."""
        return self._batch("reports", items, self._hub.tasks.report, ReportAnswer)

    def steps(self, task_id: str, after: str = "", *, timeout: float) -> StepsAnswer:
        """Return stored steps."""
        self._reach("steps", 1)
        holder = self._holder()
        reply = self._hub.store.read(lambda ledger: self._hub.tasks.steps(ledger, holder, task_id, after))
        self._answer()
        if not isinstance(reply.body, StepsAnswer):
            raise _refusal(reply)
        return decode_trusted(StepsAnswer, encode(reply.body))

    def heartbeat(self, beat: Heartbeat, *, timeout: float) -> HeartbeatAnswer:
        """Beat."""
        self._reach("heartbeat", 1)
        self.beats.append(beat)
        holder = self._holder()
        reply = self._hub.write(lambda ledger: self._hub.instances.heartbeat(ledger, holder, beat))
        self._answer()
        if reply.status != 200:
            raise _refusal(reply)
        assert isinstance(reply.body, HeartbeatAnswer)
        return reply.body

    def request_upload(self, request: RequestUpload) -> UploadOffer:
        """Refuse: this hub has no file store."""
        raise RpcError("no room for files here", code="NoRoom", status=507)

    def _batch(self, what: str, items: Sequence[Any], verb: Callable[..., Reply], kind: type[T]) -> list[ItemResult[T]]:
        self._reach(what, len(items))
        if len(encode(items)) > self.max_body:
            raise RpcError("the body is too large", code="InvalidInput", status=413)
        holder = self._holder()
        # Through wire bytes, as they would travel.
        copies = [decode_trusted(type(item), encode(item)) for item in items]
        works = [lambda ledger, item=item: verb(ledger, holder, item) for item in copies]
        replies = self._hub.store.write_many(works, [item.task_id for item in copies]).result(30)
        self._answer()
        return [_item(reply, kind) for reply in replies]

    def _holder(self) -> Any:
        assert self._registration is not None
        return self._registration.holder

    def _reach(self, what: str, count: int) -> None:
        if self.cut.is_set():
            raise HubUnavailableError("test://hub", "the line is cut")
        self.calls.append((what, count))

    def _answer(self) -> None:
        if self.lose_replies > 0:
            self.lose_replies -= 1
            raise HubUnavailableError("test://hub", "the answer was lost")


class WorkerAtHub:
    """A worker against a ledger in this process; stopped at the end of the block."""

    def __init__(
        self,
        hub: LedgerInProcess,
        handler: Callable[..., object],
        *,
        name: str = "one",
        slots: int = 1,
        **settings: Any,
    ) -> None:
        options = settings.pop("options", {})
        self.login = InProcessLogin(hub, instance=name, slots=slots)
        self.worker = Worker(
            settings=WorkerSettings(agent_name="echo", instance_id=name, concurrency=slots, **settings),
            handler=Handler.of(handler),
            login=self.login,
            open_transport=lambda _answer, _grants: Line(hub.bus),
            streams=NoStreams(),
            clock=Clock(),
            entropy=options.pop("entropy", None) or Entropy(),
            **options,
        )

    def __enter__(self) -> Self:
        self.worker.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.worker.stop(0)

    def ready(self) -> Worker:
        """Wait until it is ready, and return it."""
        self.worker.wait_ready(30)
        return self.worker


class NoStreams:
    """Be the way to streams of a worker whose tasks have none."""

    def open_exchange(self) -> StreamExchange:
        """Refuse."""
        raise RuntimeError("this worker has no streams")

    def hand_out(self, name: StreamName) -> GrantedStream:
        """Refuse."""
        raise RuntimeError(f"this worker has no stream {name.stream_id}")


def _item(reply: Reply, kind: type[T]) -> ItemResult[T]:
    if isinstance(reply.body, Problem):
        return ItemResult(reply.status, None, reply.body)
    body = decode_trusted(kind, encode(reply.body)) if isinstance(reply.body, kind) else None
    return ItemResult(reply.status, body, None)


def _refusal(reply: Reply) -> RpcError:
    assert isinstance(reply.body, Problem)
    return RpcError(reply.body.message, code=reply.body.code, status=reply.status)
