"""When a task's time is over, and which limit it was: pure, by the hub's clock in unix milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, PROGRESS
from blocks_worker.protocol.tasks import MAX_SECONDS

if TYPE_CHECKING:
    from blocks_worker.hub.store.records import TaskRecord

#: A worker ends a run at `max_runtime` by itself; the hub comes later, for those that did not.
RUNTIME_MARGIN_MS = 2_000
#: The same for `progress_timeout`. What a run says may be on its way while the hub is away or the network is cut: a run
#: that is not heard of for so long has lost its lease, and the hub says nothing of it before.
SILENCE_MARGIN_MS = 35_000
#: How long an ended task is kept.
RETENTION_MS = 7 * 24 * 3600 * 1000


def first_of(*moments: int | None) -> int | None:
    """Return the earliest of the moments that there are."""
    known = [moment for moment in moments if moment is not None]
    return min(known) if known else None


def due_queued(row: TaskRecord) -> int | None:
    """Return when a waiting task has to be looked at."""
    return first_of(row.deadline, row.queue_until, row.ready_at)


def due_offered(row: TaskRecord, until: int) -> int | None:
    """Return when an offered task has to be looked at; the offer stands `until`."""
    return first_of(row.deadline, row.queue_until, until)


def due_running(row: TaskRecord, leased_at: int) -> int | None:
    """Return when a running task has to be looked at; a pipe has no limit of its run but its duration."""
    if row.is_pipe:
        return first_of(row.deadline, expiry(row, leased_at))
    return first_of(row.deadline, runtime_end(row, leased_at), silence_end(row, leased_at))


def due_again(row: TaskRecord, awake_since: int) -> int | None:
    """Return when a running task has to be looked at that has spoken since it was due; None where it is not so."""
    if row.state != "RUNNING" or row.leased_at is None or row.progress_timeout is None:
        return None
    return first_of(row.deadline, runtime_end(row, row.leased_at), silence_end(row, row.leased_at, awake_since))


def silence_end(row: TaskRecord, leased_at: int, awake_since: int = 0) -> int | None:
    """Return when the hub ends a run that says nothing, and that its worker did not end; it hears `awake_since`."""
    if row.progress_timeout is None:
        return None
    return (
        max(row.updated, leased_at, awake_since)
        + int(min(row.progress_timeout, MAX_SECONDS) * 1000)
        + SILENCE_MARGIN_MS
    )


def expiry(row: TaskRecord, leased_at: int) -> int | None:
    """Return when the duration of a pipe is over: it counts from the first lease."""
    if row.expires_at is not None or row.duration is None:
        return row.expires_at
    return leased_at + row.duration * 60_000


def runtime_end(row: TaskRecord, leased_at: int) -> int:
    """Return when the hub ends a run that its worker did not end."""
    # A row of an older hub may hold more than any clock can count.
    return leased_at + int(min(row.max_runtime, MAX_SECONDS) * 1000) + RUNTIME_MARGIN_MS


def expired_by(row: TaskRecord, now: int, awake_since: int = 0) -> str | None:
    """Return which limit of a task that is not being cancelled is over; the hub hears since `awake_since`."""
    if row.deadline is not None and row.deadline <= now:
        return "deadline"
    if row.queue_until is not None and row.queue_until <= now:
        return "queue_ttl"
    if row.state == "RUNNING" and row.expires_at is not None and row.expires_at <= now:
        return DURATION_EXPIRED
    if row.is_pipe or row.state != "RUNNING" or row.leased_at is None:
        return None
    if runtime_end(row, row.leased_at) <= now:
        return "max_runtime"
    silence = silence_end(row, row.leased_at, awake_since)
    return PROGRESS if silence is not None and silence <= now else None
