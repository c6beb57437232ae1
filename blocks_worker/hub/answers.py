"""What the hub's services are asked by whom, and what they answer: a status and a body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.store import agents
from blocks_worker.hub.store.shown import shown
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.leases import ReportAnswer
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, State
from blocks_worker.protocol.questions import Question
from blocks_worker.protocol.tasks import OpenQuestion, Problem, TaskRow, WaitsFor

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.codec import Wire


@dataclass(frozen=True)
class Reply:
    """The answer to one request: an HTTP status and a body, a `Problem` when it was refused."""

    status: int
    body: Wire


@dataclass(frozen=True)
class Consumer:
    """Who asks for tasks; `session_channel` is where all of them speak to this client, `key` the id of its API key."""

    owner: str
    session_channel: str | None
    key: str = ""


@dataclass(frozen=True)
class Holder:
    """One process life of an instance, as its token names it.

    `key` is the id of its API key, `user` who listens for it on the network when that is not the instance id.
    """

    agent_id: str
    agent_name: str
    instance_id: str
    incarnation: str
    owner: str
    key: str = ""
    user: str = ""


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


def waits_for(ledger: Ledger, row: TaskRecord) -> WaitsFor | None:
    """Return what a task waits for before it is offered; None when it does not wait."""
    if row.state != State.QUEUED.value or row.pause:
        return None
    if row.ready_at is not None:
        return "retry" if row.attempt else "delay"
    return ledger.remembered(("waits", row.agent), partial(_agent_lacks, ledger, row.agent))


def _agent_lacks(ledger: Ledger, agent: str) -> WaitsFor:
    facts = ledger.agent(agent)
    if facts is not None and ledger.below_limit(facts) == 0:
        return "limit"
    # Most of what waits has somebody who is busy: that is cheap to see.
    return "room" if ledger.candidates(agent) or agents.runs(ledger.connection, agent) else "instance"


def task_row(row: TaskRecord, waiting: WaitsFor | None = None) -> TaskRow:
    """Return a task as its owner sees it; `waiting`: what it waits for, where that is told."""
    return TaskRow(
        task_id=row.id,
        agent_name=row.agent,
        owner=row.owner,
        state=shown(row),
        created_time=row.created,
        updated_time=row.updated,
        attempt=row.attempt,
        epoch=row.epoch,
        last_n=row.last_n,
        queued=row.state == State.QUEUED.value and not row.pause,
        waits_for=waiting,
        ended_time=row.ended,
        cancel_requested=row.cancel_at is not None,
        error=row.error,
        error_code=row.error_code,
        task_kind="pipe" if row.is_pipe else "request",
        expires_at=row.expires_at,
        pause=bool(row.pause),
        pause_seq=row.pause_seq,
        reason=None if _ran_out(row) else row.reason,
        completion_reason=DURATION_EXPIRED if _ran_out(row) else None,
        parent_task_id=row.parent,
        retry_of=row.retry_of,
        ready_at=row.ready_at,
        priority=row.priority,
        deadline=row.deadline,
        queue_until=row.queue_until,
        dead_reason=row.dead_reason,  # type: ignore[arg-type]  # the hub writes no other word
        question=None if row.ask_id is None else _open_question(row, row.question or ""),
    )


def _open_question(row: TaskRecord, stored: str) -> OpenQuestion:
    asked = decode_trusted(Question, stored.encode())
    until = row.ask_until or 0
    return OpenQuestion(ask_id=asked.ask_id, question=asked.question, schema=asked.schema, until=until)


def _ran_out(row: TaskRecord) -> bool:
    return row.state == State.EXPIRED.value and row.reason == DURATION_EXPIRED


def flags(row: TaskRecord) -> dict[str, Any]:
    """Return what a run is told whenever it speaks: whether it is to stop, and why; whether it is to wait."""
    cancel, expire = row.state == State.CANCELLING.value, row.state == State.EXPIRING.value
    return {
        "cancel": cancel,
        "expire": expire,
        "reason": row.reason if cancel or expire else None,
        "pause": bool(row.pause),
        "pause_seq": row.pause_seq,
    }


def report_answer(status: int, row: TaskRecord, *, expected_n: int | None = None) -> Reply:
    """Tell a run how its task stands."""
    answer = ReportAnswer(task_id=row.id, epoch=row.epoch, state=shown(row), expected_n=expected_n, **flags(row))
    return Reply(status, answer)


def fenced(task_id: str, epoch: int) -> Reply:
    """Tell somebody without a lease nothing but that he has none."""
    return Reply(409, ReportAnswer(task_id=task_id, epoch=epoch, state="fenced"))
