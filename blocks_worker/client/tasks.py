"""Tasks as the hub's list shows them to a consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from blocks_worker.protocol.tasks import TaskPage, TaskRow

_NAMED = ("taskId", "agentName", "owner", "state", "createdTime", "updatedTime")


@dataclass(frozen=True)
class TaskInfo:
    """One task. Times are unix milliseconds; `extra` holds what else the hub tells, under its own names."""

    task_id: str
    agent_name: str
    owner: str
    state: str
    created_time: int
    updated_time: int
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: TaskRow) -> TaskInfo:
        """Return the task that a row of the hub tells of."""
        fields: dict[str, Any] = msgspec.to_builtins(row)
        extra = {name: value for name, value in fields.items() if name not in _NAMED and value is not None}
        return cls(row.task_id, row.agent_name, row.owner, row.state, row.created_time, row.updated_time, extra)


@dataclass(frozen=True)
class ListTasksParams:
    """Say which tasks are wanted; `cursor` is the `next` of the page before."""

    owner_id: str | None = None
    agent_name: str | None = None
    state: str | None = None
    limit: int | None = None
    cursor: str | None = None


@dataclass(frozen=True)
class ListTasksResult:
    """One page of tasks, newest first; `next` is None on the last.

    `total_count` is of all pages; None for who has more tasks than the hub counts (2,048).
    """

    tasks: list[TaskInfo]
    next: str | None
    total_count: int | None = None

    @classmethod
    def of(cls, page: TaskPage) -> ListTasksResult:
        """Return the page that an answer of the hub holds."""
        return cls([TaskInfo.of(row) for row in page.tasks], page.next, page.total_count)


def checked_id(task_id: str) -> str:
    """Return a task's id; refuse what can be none before the hub is asked."""
    if not isinstance(task_id, str):
        raise TypeError(f"a task's id is a text, as session.task_id says it, not {task_id!r}")
    if not task_id:
        raise ValueError("the task's id is empty: pass what session.task_id says")
    return task_id
