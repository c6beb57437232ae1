"""What the hub's services are asked by whom, and what they answer: a status and a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.leases import ReportAnswer
from blocks_worker.protocol.lifecycle import SHOWN, State
from blocks_worker.protocol.tasks import Problem, TaskRow

if TYPE_CHECKING:
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.codec import Wire


@dataclass(frozen=True)
class Reply:
    """The answer to one request: an HTTP status and a body, a `Problem` when it was refused."""

    status: int
    body: Wire


@dataclass(frozen=True)
class Consumer:
    """Who asks for tasks; `session_channel` is where all of them speak to this client."""

    owner: str
    session_channel: str | None


@dataclass(frozen=True)
class Holder:
    """One process life of an instance, as its token names it."""

    agent_id: str
    agent_name: str
    instance_id: str
    incarnation: str
    owner: str


class RefusedError(Exception):
    """End the work on a request with an answer; what was written for it is undone."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def problem(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Reply:
    """Return a refusal."""
    return Reply(status, Problem(code=code, message=message, details=details))


def no_such_task() -> Reply:
    """Return the one answer for a task that is not there and for one of somebody else."""
    return problem(404, "NotFound", "no such task")


def shown(state: str) -> str:
    """Return a state as consumers see it."""
    return SHOWN[State(state)]


def task_row(row: TaskRecord) -> TaskRow:
    """Return a task as its owner sees it."""
    return TaskRow(
        task_id=row.id,
        agent_name=row.agent,
        owner=row.owner,
        state=shown(row.state),
        created_time=row.created,
        updated_time=row.updated,
        attempt=row.attempt,
        epoch=row.epoch,
        last_n=row.last_n,
        queued=row.state == State.QUEUED.value,
        ended_time=row.ended,
        cancel_requested=row.cancel_at is not None,
        error=row.error,
        error_code=row.error_code,
        reason=row.reason,
        parent_task_id=row.parent,
    )


def report_answer(status: int, row: TaskRecord, *, expected_n: int | None = None) -> Reply:
    """Tell a run how its task stands."""
    cancelling = row.state == State.CANCELLING.value
    answer = ReportAnswer(
        task_id=row.id,
        epoch=row.epoch,
        state=shown(row.state),
        expected_n=expected_n,
        cancel=cancelling,
        reason=row.reason if cancelling else None,
    )
    return Reply(status, answer)


def fenced(task_id: str, epoch: int) -> Reply:
    """Tell somebody without a lease nothing but that he has none."""
    return Reply(409, ReportAnswer(task_id=task_id, epoch=epoch, state="fenced"))
