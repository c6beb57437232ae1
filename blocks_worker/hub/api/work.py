"""The worker's doors: claims, reports and heartbeats of the instance that holds the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.batches import Work, items_of, put_items, written
from blocks_worker.hub.api.calls import Answer, Door, answered
from blocks_worker.protocol import codec
from blocks_worker.protocol.leases import (
    Claim,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    LateReport,
    Report,
    ReportAnswer,
)
from blocks_worker.protocol.steps import StepsAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.api.batches import Writes
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.api.coming import Coming
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.auth.logins import Logins
    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Holder, Reply, TaskService

Item = TypeVar("Item", bound=Claim | Report | LateReport)
Who = TypeVar("Who")


class WorkDoors:
    """Serve instances; who speaks is in the token, never in a body."""

    def __init__(
        self, *, writes: Writes, tasks: TaskService, instances: InstanceService, guard: Guard, logins: Logins
    ) -> None:
        self._store = writes.store
        self._writes = writes
        self._tasks = tasks
        self._instances = instances
        self._guard = guard
        self._logins = logins

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door(
                "POST",
                "/api/v1/claims",
                self.claims,
                hot=True,
                takes=Claim,
                gives=ClaimAnswer,
                refuses=ReportAnswer,
                many=True,
            ),
            Door(
                "POST",
                "/api/v1/reports",
                self.reports,
                hot=True,
                takes=Report,
                gives=ReportAnswer,
                refuses=ReportAnswer,
                many=True,
            ),
            Door("POST", "/api/v1/heartbeats", self.heartbeat, hot=True, takes=Heartbeat, gives=HeartbeatAnswer),
            Door(
                "POST",
                "/api/v1/reports/late",
                self.late_reports,
                takes=LateReport,
                gives=ReportAnswer,
                refuses=ReportAnswer,
                many=True,
            ),
            Door("GET", "/api/v1/tasks/{task_id}/steps", self.steps, gives=StepsAnswer),
        ]

    def claims(self, call: Call) -> Coming:
        """Give or refuse the right to run, for one task or many.

        Who: instance
        Answers: one or many: 200 lease; 200 nack taken · 409 fenced · 410 cancelled, or incarnation is over
        """
        return self._items(call, Claim, self._tasks.claim)

    def reports(self, call: Call) -> Coming:
        """Record what runs have to say, for one task or many.

        Who: instance with a lease
        Answers: one or many: 200 · 400 an event is refused · 409 fenced · 413 `event_quota` · 422
            `expectedN`
        """
        return self._items(call, Report, self._tasks.report)

    def late_reports(self, call: Call) -> Coming:
        """Record what processes that died had to say; their owner's API key lets in, each lease proves the rest.

        Who: API key of the owner, with each incarnation and its lease
        Answers: as `POST reports`, for what a process that died left behind
        """
        key = call.api_key
        owner = self._store.read(lambda ledger: self._logins.owner(ledger, key))
        many, items = items_of(LateReport, call.body)
        return put_items(self._writes, [_work(self._tasks.report_late, owner, item) for item in items], many=many)

    async def steps(self, call: Call) -> Answer:
        """Show what runs of a task stored as its steps, by their names, those behind a name.

        Query: after
        Who: the consumer whose task it is, the instance that holds it
        Answers: 200, with `more` where that is not all · 404 · 410 `TaskPurged`
        """
        who, task_id, after = self._guard.either(call.bearer), call.path["task_id"], call.query.get("after", "")
        return answered(self._store.read(lambda ledger: self._tasks.steps(ledger, who, task_id, after)))

    async def heartbeat(self, call: Call) -> Answer:
        """Renew all leases of an instance and tell it all flags again.

        Who: instance
        Answers: 200 all flags · 410 `IncarnationUnknown`: come anew; `Superseded`: end
        """
        holder = self._guard.holder(call.bearer)
        beat = codec.decode(Heartbeat, call.body)
        return answered(await written(self._store, lambda ledger: self._instances.heartbeat(ledger, holder, beat)))

    def _items(self, call: Call, kind: type[Item], act: Callable[[Ledger, Holder, Item], Reply]) -> Coming:
        holder = self._guard.holder(call.bearer)
        many, items = items_of(kind, call.body)
        return put_items(self._writes, [_work(act, holder, item) for item in items], many=many)


def _work(
    act: Callable[[Ledger, Who, Item], Reply], who: Who, item: Item | InvalidMessageError
) -> Work | InvalidMessageError:
    if isinstance(item, InvalidMessageError):
        return item
    about = item.report.task_id if isinstance(item, LateReport) else item.task_id
    return Work(about, lambda ledger: act(ledger, who, item))
