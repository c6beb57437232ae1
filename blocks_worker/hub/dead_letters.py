"""Which tasks the hub gives up, why, and how long such a dead letter is kept: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.hub.retries import is_used_up

if TYPE_CHECKING:
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.leases import Outcome
    from blocks_worker.protocol.tasks import DeadReason

#: How long a dead letter is kept: somebody has to find it, mend the cause and send it again.
DEAD_RETENTION_MS = 30 * 24 * 3600 * 1000


def dead_by_outcome(row: TaskRecord, outcome: Outcome) -> DeadReason | None:
    """Return why a task that ends with this outcome is given up; None where it is not."""
    return "attempts" if is_used_up(row, outcome) else None


def dead_by_loss(row: TaskRecord) -> DeadReason:
    """Return why a task is given up whose lease was lost for good: one that may run again has lost too many."""
    return "poison" if row.may_run_again else "lease_lost"


def dead_by_limit(why: str) -> DeadReason | None:
    """Return why a task that a limit of time ended is given up; None where the limit was the caller's wish."""
    return "queue_ttl" if why == "queue_ttl" else None


def kept_for(dead: DeadReason | None) -> int:
    """Return for how many milliseconds an ended task is kept."""
    return RETENTION_MS if dead is None else DEAD_RETENTION_MS
