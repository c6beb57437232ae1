"""Tasks that are done for another one: who may ask for them, how deep they go, and until when they may go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.answers import Consumer, RefusedError, problem
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.control import StartBody
from blocks_worker.protocol.lifecycle import State
from blocks_worker.protocol.tasks import MAX_DEPTH, TOO_DEEP

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.tasks import SubmitTask

_ENDING = frozenset({State.CANCELLING.value, State.EXPIRING.value})


@dataclass(frozen=True)
class Ancestry:
    """How many tasks are above this one, when it is over at the latest (unix milliseconds), and whom it repeats."""

    depth: int
    deadline: int | None
    retry_of: str | None = None


def ancestry(ledger: Ledger, consumer: Consumer, request: SubmitTask) -> Ancestry:
    """Return what a task has of the one it is done for.

    Raises:
        RefusedError: that one is not the caller's to ask for, is over, or is too deep already.
    """
    if request.parent_task_id is None:
        return Ancestry(0, request.deadline)
    parent = ledger.task(request.parent_task_id)
    if parent is None or not _may_ask(ledger, consumer, parent):
        raise RefusedError(problem(404, "NotFound", "there is no such parent task, or it is somebody else's"))
    if not asks(parent):
        raise RefusedError(problem(409, "InvalidState", "the parent task has ended or is to end: it asks for no more"))
    depth = _depth(ledger, parent.id) + 1
    if depth > MAX_DEPTH:
        text = f"this would be call {depth} within calls, and {MAX_DEPTH} are allowed: does an agent call itself?"
        raise RefusedError(problem(409, TOO_DEEP, text, {"depth": depth, "limit": MAX_DEPTH}))
    ends = [each for each in (request.deadline, parent.deadline, parent.expires_at) if each is not None]
    return Ancestry(depth, min(ends, default=None))


def asks(parent: TaskRecord) -> bool:
    """Tell whether a task may still ask for others: it has not ended, and is not to end."""
    return not parent.is_ended and parent.state not in _ENDING


def _may_ask(ledger: Ledger, consumer: Consumer, parent: TaskRecord) -> bool:
    """Tell whether the caller asked for the parent, or runs it."""
    if parent.owner == consumer.owner:
        return True
    holder = ledger.instance(parent.inc) if parent.inc is not None else None
    return holder is not None and holder.owner == consumer.owner


def _depth(ledger: Ledger, task_id: str) -> int:
    claims = decode_trusted(StartBody, ledger.start(task_id)).caller_claims
    depth = claims.get("depth", 0)
    return depth if isinstance(depth, int) else 0
