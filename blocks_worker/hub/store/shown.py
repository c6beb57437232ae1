"""What consumers see of a task: of one row, and as a condition that finds all rows of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_

from blocks_worker.hub.store.schema import task
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, PAUSED, SHOWN, State

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from blocks_worker.hub.store.records import TaskRecord


_SHOWN = {state.value: name for state, name in SHOWN.items()}


def ended_as(state: str, reason: str | None) -> str:
    """Return what consumers see of a task that ended so."""
    ran_out = state == State.EXPIRED.value and reason == DURATION_EXPIRED
    return "completed" if ran_out else _SHOWN[state]


def shown(row: TaskRecord) -> str:
    """Return the state of a task as consumers see it."""
    if (row.pause and row.state == State.QUEUED.value) or (row.paused and row.state == State.RUNNING.value):
        return PAUSED
    return ended_as(row.state, row.reason)


def is_shown_as(name: str) -> ColumnElement[bool]:
    """Return the condition under which consumers see this of a task."""
    is_paused = or_(
        and_(task.c.state == State.QUEUED.value, task.c.pause != 0),
        and_(task.c.state == State.RUNNING.value, task.c.paused != 0),
    )
    ran_out = and_(task.c.state == State.EXPIRED.value, task.c.reason.is_not_distinct_from(DURATION_EXPIRED))
    if name == PAUSED:
        return is_paused
    plain = task.c.state.in_([inner.value for inner, outer in SHOWN.items() if outer == name])
    return or_(plain, ran_out) if name == "completed" else and_(plain, ~is_paused, ~ran_out)
