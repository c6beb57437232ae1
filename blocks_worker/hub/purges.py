"""Purge an ended task because its owner wants it, and tell of what was purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.hub.answers import RefusedError, Reply, no_such_task, problem
from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.hub.store.shown import shown
from blocks_worker.protocol.tasks import PurgedTask

if TYPE_CHECKING:
    from typing import Any

    from blocks_worker.hub.answers import Consumer
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import StubRecord, TaskRecord
    from blocks_worker.protocol.tasks import SubmitTask

#: How long it is told of a purged task that there was one.
STUB_LIFE_MS = 30 * 24 * 3600 * 1000
#: By whom a task was purged before its time was over.
OWNER = "owner"


def purged(ledger: Ledger, consumer: Consumer, row: TaskRecord | None, task_id: str, now: int) -> Reply:
    """Purge a task that has ended: 200 with what stays of it, also when that was done before; 409 while it goes on."""
    if row is None:
        known = ledger.stub(task_id)
        return no_such_task() if known is None or known.owner != consumer.owner else Reply(200, _told(known))
    if not row.is_ended:
        text = f"the task is {shown(row)}: cancel it, and purge it when it has ended"
        return problem(409, "InvalidState", text, {"state": shown(row)})
    ledger.purge([row], now, OWNER)
    left = ledger.stub(task_id)
    if left is None:
        raise RuntimeError("a task that was just purged has a stub")
    return Reply(200, _told(left))


def missing(ledger: Ledger, consumer: Consumer, task_id: str) -> Reply:
    """Answer for a task that is not there: 410 with what stays of it where the caller's was purged, else 404."""
    known = ledger.stub(task_id)
    if known is None or known.owner != consumer.owner:
        return no_such_task()
    return _gone(known)


def check_not_purged(ledger: Ledger, consumer: Consumer, request: SubmitTask, now: int) -> None:
    """Refuse to make a task anew that was purged: whoever asks again repeats what he did before.

    Raises:
        RefusedError: a task with this id, or under this key, was purged.
    """
    key = request.idempotency_key
    known = None if key is None else ledger.stub_by_key(consumer.owner, request.agent_name, key, now - RETENTION_MS)
    if known is None and request.task_id is not None:
        known = ledger.stub(request.task_id)
    if known is None:
        return
    if known.owner != consumer.owner:
        raise RefusedError(problem(409, "TaskIdInUse", "another task has this id: choose a new one"))
    raise RefusedError(_gone(known))


def _gone(known: StubRecord) -> Reply:
    text = f"the task {known.id} was purged ({known.purged_by}); it was {known.state}"
    return problem(410, "TaskPurged", text, _fields(_told(known)))


def _told(known: StubRecord) -> PurgedTask:
    return PurgedTask(
        task_id=known.id,
        agent_name=known.agent,
        state=known.state,
        ended_time=known.ended,
        purged_time=known.purged_at,
        purged_by=known.purged_by,
        digest=known.digest,
    )


def _fields(message: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return fields
