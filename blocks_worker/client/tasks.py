"""Tasks as the hub's list shows them to a consumer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from blocks_worker.client.moments import unix_ms
from blocks_worker.errors import ConfigurationError, RpcError
from blocks_worker.protocol.tasks import DeadReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from blocks_worker.protocol.tasks import TaskPage, TaskRow

#: Most tasks that are asked for at once.
_AT_ONCE = 256
#: The hub's sentence for a task that it does not know: its code says so of an agent too.
_UNKNOWN = "no such task"
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
    """Say which tasks are wanted.

    Attributes:
        owner_id: None, or `get_user_id()` of the client: a hub shows nobody else's tasks.
        dead: only tasks that the hub gave up; True for all of them, else the reason: ``attempts``, ``poison``,
            ``lease_lost`` or ``queue_ttl``.
        ended_since: only tasks that ended then or later: a datetime with a zone, or unix milliseconds.
        ended_until: the same, for those that ended before.
        limit: most tasks to return; None: one page, as long as the hub likes it.
        cursor: the `next` of the result before.
    """

    owner_id: str | None = None
    agent_name: str | None = None
    state: str | None = None
    limit: int | None = None
    cursor: str | None = None
    dead: bool | str | None = None
    ended_since: datetime | int | None = None
    ended_until: datetime | int | None = None

    def query(self) -> dict[str, Any]:
        """Return what the hub is asked besides limit and cursor.

        Raises:
            TypeError, ValueError: a moment is none, or the reason no reason.
        """
        moments = {"since": ("ended_since", self.ended_since), "until": ("ended_until", self.ended_until)}
        return {
            "state": self.state,
            "agent": self.agent_name,
            "dead": _dead(self.dead),
            **{key: None if value is None else unix_ms(name, value) for key, (name, value) in moments.items()},
        }


@dataclass(frozen=True)
class ListTasksResult:
    """One page of tasks, newest first; `next` is None on the last.

    `total_count` is of all pages; None for who has more tasks than the hub counts (2,048).
    """

    tasks: list[TaskInfo]
    next: str | None
    total_count: int | None = None

    @classmethod
    def of(cls, pages: Sequence[TaskPage]) -> ListTasksResult:
        """Return what answers of the hub hold that follow one another."""
        tasks = [TaskInfo.of(row) for page in pages for row in page.tasks]
        return cls(tasks, pages[-1].next, pages[0].total_count)


def listed(ask: Callable[[int | None, str | None], TaskPage], params: ListTasksParams) -> ListTasksResult:
    """Return as many tasks as are wanted, in as many pages as that takes; `ask` gets a limit and a cursor.

    Raises:
        ConfigurationError: the limit is no number of tasks.
    """
    limit = _limit(params.limit)
    pages = [ask(_page(limit), params.cursor)]
    if limit is not None:
        limit -= len(pages[0].tasks)
        while limit > 0 and pages[-1].next is not None:
            pages.append(ask(_page(limit), pages[-1].next))
            limit -= len(pages[-1].tasks)
    return ListTasksResult.of(pages)


def _dead(given: Any) -> str | None:
    known = get_args(DeadReason)
    if given is None or given is False:
        return None
    if given is not True and given not in known:
        raise ConfigurationError(f"dead is True or the reason of a dead letter ({', '.join(known)}), not {given!r}")
    return "any" if given is True else str(given)


def _limit(given: Any) -> int | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ConfigurationError(f"limit is a number of tasks, at least 1, or None for one page; not {given!r}")
    return given


def _page(limit: int | None) -> int | None:
    return None if limit is None else min(limit, _AT_ONCE)


def checked_id(task_id: str) -> str:
    """Return a task's id; refuse what can be none before the hub is asked."""
    if not isinstance(task_id, str):
        raise TypeError(f"a task's id is a text, as session.task_id says it, not {task_id!r}")
    if not task_id:
        raise ValueError("the task's id is empty: pass what session.task_id says")
    return task_id


@contextmanager
def task_named(task_id: str) -> Iterator[None]:
    """Have the hub's refusal of a task that it does not know name the task, and say how to find the right one."""
    try:
        yield
    except RpcError as refused:
        if refused.rpc_message != _UNKNOWN:
            raise
        text = f"no such task {task_id!r}, or it is not yours: client.list_tasks() or 'blocks tasks' lists yours"
        raise RpcError(text, code=refused.code, status=refused.status, data=refused.data) from refused
