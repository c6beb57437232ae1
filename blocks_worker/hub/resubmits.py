"""Send a task again: a new task of what is stored of an old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.hub.sub_tasks import asks
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.control import StartBody
from blocks_worker.protocol.tasks import RetryPolicy, SubmitTask

if TYPE_CHECKING:
    from typing import Any

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord

#: States, as consumers see them, of tasks that may be sent again.
REPEATABLE = frozenset({"failed", "canceled"})


def resubmission(ledger: Ledger, row: TaskRecord, task_id: str) -> SubmitTask:
    """Return what asks for the same once more.

    Limits that are moments, `deadline` and `queueTtl`, are left out: they were for the old one. It stays the
    sub-task of a task that goes on, and stands alone when that is over.
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
        task_kind=start.task_kind,
        duration=start.duration,
        stream=start.has_stream,
        consumer_public_key=start.consumer_public_key,
        metadata=start.metadata,
        request_summary=start.request_summary,
        parent_task_id=row.parent if parent is not None and asks(parent) else None,
        delivery=delivery,
        max_runtime=row.max_runtime,
        retry_policy=None if row.retry is None else decode_trusted(RetryPolicy, row.retry.encode()),
    )
