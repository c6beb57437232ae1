"""Send a task again: a new task of what is stored of an old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.hub.answers import RefusedError, problem
from blocks_worker.hub.sub_tasks import asks
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.control import StartBody
from blocks_worker.protocol.tasks import RetryPolicy, SubmitTask

if TYPE_CHECKING:
    from typing import Any

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.tasks import RetryTask

#: States, as consumers see them, of tasks that may be sent again.
REPEATABLE = frozenset({"failed", "canceled"})


def sent_again(ledger: Ledger, row: TaskRecord, wish: RetryTask) -> TaskRecord | None:
    """Return the task as which this one was sent again under the same key or id; None where there is none.

    Raises:
        RefusedError: key or id stand for something else.
    """
    if wish.idempotency_key is not None:
        known = ledger.task_by_key(row.owner, row.agent, wish.idempotency_key)
        if known is not None and known.retry_of != row.id:
            text = "this idempotency key was used for another task: use a new key"
            raise RefusedError(problem(422, "IdempotencyConflict", text, {"taskId": known.id}))
        if known is not None:
            return known
    known = None if wish.task_id is None else ledger.task(wish.task_id)
    if known is not None and (known.owner != row.owner or known.retry_of != row.id):
        raise RefusedError(problem(409, "TaskIdInUse", "another task has this id: choose a new one"))
    return known


def resubmission(ledger: Ledger, row: TaskRecord, task_id: str, key: str | None) -> SubmitTask:
    """Return what asks for the same once more.

    Limits that are moments, `deadline` and `queueTtl`, and its delay are left out: they were for the old one. It
    stays the sub-task of a task that goes on, and stands alone when that is over.
    """
    start = decode_trusted(StartBody, ledger.start(row.id))
    parent = None if row.parent is None else ledger.task(row.parent)
    delivery: Any = row.delivery
    billing_mode: Any = row.billing_mode
    return SubmitTask(
        agent_name=row.agent,
        billing_mode=billing_mode,
        request_parts=msgspec.Raw(bytes(start.request_parts)),
        task_id=task_id,
        idempotency_key=key,
        task_kind=start.task_kind,
        duration=start.duration,
        stream=start.has_stream,
        consumer_public_key=start.consumer_public_key,
        metadata=start.metadata,
        request_summary=start.request_summary,
        parent_task_id=row.parent if parent is not None and asks(parent) else None,
        delivery=delivery,
        max_runtime=row.max_runtime,
        progress_timeout=row.progress_timeout,
        priority=row.priority,
        retry_policy=None if row.retry is None else decode_trusted(RetryPolicy, row.retry.encode()),
    )
