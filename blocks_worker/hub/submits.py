"""Take a new task in: once for each key, checked, stored with its input, and offered in the same transaction."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.answers import Consumer, RefusedError, Reply, problem, waits_for
from blocks_worker.hub.cards import card_of
from blocks_worker.hub.due import due_queued
from blocks_worker.hub.file_service import file_ids, without_file_ids
from blocks_worker.hub.purges import check_not_purged
from blocks_worker.hub.queueing import queue_until, rank, ready_at
from blocks_worker.hub.resubmits import REPEATABLE, resubmission, sent_again
from blocks_worker.hub.retries import check_policy, retries_of
from blocks_worker.hub.store import agents, files
from blocks_worker.hub.store.records import AgentFacts, TaskRecord
from blocks_worker.hub.store.shown import shown
from blocks_worker.hub.sub_tasks import Ancestry, ancestry
from blocks_worker.protocol.channels import TASK, check_name, task_channel
from blocks_worker.protocol.codec import MAX_BODY, decode_trusted, encode
from blocks_worker.protocol.control import StartBody
from blocks_worker.protocol.lifecycle import State
from blocks_worker.protocol.tasks import MAX_DURATION, MAX_SECONDS, SubmitAnswer, SubmitTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.dispatch import Dispatch
    from blocks_worker.hub.shares import Shares
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.protocol.tasks import RetryTask, WaitsFor

#: Names with which a wrong one is compared, at most.
_MOST_COMPARED = 500
#: Without this key no part refers to a stored file.
_FILE = b'"fileId"'


class Submits:
    """Accept tasks."""

    def __init__(
        self,
        steady: SteadyClock,
        entropy: Entropy,
        dispatch: Dispatch,
        shares: Shares,
        admits: Callable[[], bool] = lambda: True,
    ) -> None:
        self._steady = steady
        self._entropy = entropy
        self._dispatch = dispatch
        self._shares = shares
        self._admits = admits
        #: What waits for an agent, at most: grows with each submit, counted anew when it seems too much.
        self._waiting: dict[str, int] = {}

    def again(self, ledger: Ledger, consumer: Consumer, row: TaskRecord, wish: RetryTask) -> Reply:
        """Send a task that ended without a result again: 201, 200 when this was done under the id or key before."""
        known = sent_again(ledger, row, wish)
        if known is not None:
            return Reply(200, _accepted(known, waits_for(ledger, known)))
        if shown(row) not in REPEATABLE:
            text = f"the task is {shown(row)}: only one that failed or was canceled can be sent again"
            raise RefusedError(problem(409, "InvalidState", text, {"state": shown(row)}))
        new_id = wish.task_id or self._entropy.uuid7(self._steady.now_ms())
        again = resubmission(ledger, row, new_id, wish.idempotency_key)
        reply = self.submit(ledger, consumer, again, retry_of=row.id)
        if wish.keep_steps:
            # Before anybody can have claimed it: that takes another transaction.
            ledger.copy_steps(row.id, new_id)
        if wish.keep_answers:
            ledger.copy_answers(row.id, new_id)
        return reply

    def submit(self, ledger: Ledger, consumer: Consumer, request: SubmitTask, *, retry_of: str | None = None) -> Reply:
        """Return 201 for a new task, 200 for the one that is there under the same key."""
        digest = _digest(encode(_as_compared(request)))
        known = self._known(ledger, consumer, request, digest)
        if known is not None:
            return Reply(200, _accepted(known, waits_for(ledger, known)))
        check_not_purged(ledger, consumer, request, self._steady.now_ms())
        if not self._admits():
            raise RefusedError(problem(507, "NoRoom", "the hub's disk is nearly full: free some room, then try again"))
        agent = self._agent(ledger, consumer, request)
        _check(request)
        _check_kind(agent, request)
        _check_parts(agent, request)
        self._check_backlog(ledger, agent)
        check_policy(request, request.delivery or agent.delivery)
        above = replace(ancestry(ledger, consumer, request), retry_of=retry_of)
        stored = _stored_files(ledger, consumer, request)
        row = self._insert(ledger, consumer, request, agent, digest, above)
        for file_id in stored:
            files.use(ledger.connection, file_id, row.id)
        self._waiting[agent.name] = self._waiting.get(agent.name, 0) + 1
        self._dispatch.route(ledger, agent.name, put_back=False)
        answer = _accepted(row, None, new=True)
        ledger.put_off(("standing", row.id), partial(_say_standing, ledger, row.id, answer))
        return Reply(201, answer)

    def _known(self, ledger: Ledger, consumer: Consumer, request: SubmitTask, digest: str) -> TaskRecord | None:
        if request.idempotency_key is not None:
            row = ledger.task_by_key(consumer.owner, request.agent_name, request.idempotency_key)
            if row is not None:
                return _same_body(row, digest)
        row = None if request.task_id is None else ledger.task(request.task_id)
        if row is None:
            return None
        repeated = row.owner == consumer.owner and row.body_digest == digest and row.idem == request.idempotency_key
        if not repeated:
            raise RefusedError(problem(409, "TaskIdInUse", "another task has this id: choose a new one"))
        return row

    def _agent(self, ledger: Ledger, consumer: Consumer, request: SubmitTask) -> AgentFacts:
        agent = ledger.agent(request.agent_name)
        if agent is None or (agent.listing == "private" and agent.owner != consumer.owner):
            raise RefusedError(problem(404, "NotFound", _no_agent(ledger, consumer, request.agent_name)))
        if agent.billing_mode != request.billing_mode:
            raise RefusedError(
                problem(
                    409,
                    "BillingModeMismatch",
                    f"the agent's billing mode is {agent.billing_mode!r}, not {request.billing_mode!r}",
                    {"expected": agent.billing_mode, "got": request.billing_mode},
                )
            )
        return agent

    def _check_backlog(self, ledger: Ledger, agent: AgentFacts) -> None:
        if self._waiting.get(agent.name, 0) < agent.max_pending_backlog:
            return
        # What this transaction has taken in was not offered yet.
        self._dispatch.route_now(ledger, agent.name)
        self._waiting[agent.name] = ledger.count_waiting(agent.name)
        if self._waiting[agent.name] >= agent.max_pending_backlog and not self._dispatch.has_room(ledger, agent.name):
            text = f"{self._waiting[agent.name]} tasks wait for {agent.name!r} already: try again later"
            raise RefusedError(problem(429, "agent_at_capacity", text))

    def _insert(
        self,
        ledger: Ledger,
        consumer: Consumer,
        request: SubmitTask,
        agent: AgentFacts,
        digest: str,
        above: Ancestry,
    ) -> TaskRecord:
        now = self._steady.now_ms()
        start = _start(consumer, request, agent, above.depth)
        if len(start) > MAX_BODY:
            text = f"the input is {len(start)} bytes with its head: a worker takes {MAX_BODY}; send a file instead"
            raise RefusedError(problem(413, "InvalidInput", text, {"reason": "too_large"}))
        refused = self._shares.refusal(ledger, consumer.owner, len(start))
        if refused is not None:
            raise RefusedError(refused)
        ready = ready_at(request, now, above.deadline)
        row = TaskRecord(
            id=request.task_id or self._entropy.uuid7(now),
            owner=consumer.owner,
            agent=agent.name,
            billing_mode=agent.billing_mode,
            session=consumer.session_channel,
            idem=request.idempotency_key,
            body_digest=digest,
            parent=request.parent_task_id,
            state=State.QUEUED.value,
            epoch=0,
            attempt=0,
            lost=0,
            delivery=request.delivery or agent.delivery,
            inc=None,
            lost_inc=None,
            last_n=0,
            digest=_digest(start),
            outcome_digest=None,
            max_runtime=request.max_runtime or float(min(agent.max_running_time_sec, MAX_SECONDS)),
            deadline=above.deadline,
            queue_until=queue_until(request, now, ready),
            offer_until=None,
            leased_at=None,
            cancel_at=None,
            force_at=None,
            error=None,
            error_code=None,
            reason=None,
            created=now,
            updated=now,
            ended=None,
            due_at=None,
            purge_at=None,
            kind=request.task_kind,
            duration=request.duration,
            retry_of=above.retry_of,
            retry=None if request.retry_policy is None else encode(request.retry_policy).decode(),
            retries=retries_of(request.retry_policy),
            ready_at=ready,
            priority=request.priority,
            rank=rank(request, now, ready),
            progress_timeout=_progress_timeout(request, agent),
        )
        row = row.changed(due_at=due_queued(row))
        ledger.insert_task(row, start)
        return row


def _no_agent(ledger: Ledger, consumer: Consumer, name: str) -> str:
    """Return the sentence for an agent that is not there; only what the consumer may see is offered instead."""
    wanted = agents.AgentFilter(asking=consumer.owner)
    rows, _ = agents.page(ledger.connection, wanted, after="", limit=_MOST_COMPARED)
    near = difflib.get_close_matches(name, [row.name for row in rows], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no agent named {name!r}; {hint}`blocks agents` lists them"


def _as_compared(request: SubmitTask) -> SubmitTask:
    """Return what two submits under one key have in common: not the id, and not where a file was stored."""
    compared = msgspec.structs.replace(request, task_id=None)
    if _FILE not in bytes(request.request_parts):
        return compared
    return msgspec.structs.replace(compared, request_parts=msgspec.Raw(without_file_ids(bytes(request.request_parts))))


def _stored_files(ledger: Ledger, consumer: Consumer, request: SubmitTask) -> list[str]:
    """Return the ids of the stored files that the input refers to; each has to be there and the caller's own."""
    if _FILE not in bytes(request.request_parts):
        return []
    found = file_ids(bytes(request.request_parts))
    for file_id in found:
        record = files.get(ledger.connection, file_id)
        if record is None or record.state != files.COMMITTED or record.owner != consumer.owner:
            text = f"no stored file has the id {file_id[:64]!r}: upload it, then send its reference"
            raise RefusedError(problem(400, "InvalidInput", text, {"reason": "file"}))
    return found


def _same_body(row: TaskRecord, digest: str) -> TaskRecord:
    if row.body_digest != digest:
        text = "this idempotency key was used with another body: use a new key"
        raise RefusedError(problem(422, "IdempotencyConflict", text, {"taskId": row.id}))
    return row


def _check(request: SubmitTask) -> None:
    if request.task_kind == "pipe" and not 1 <= (request.duration or 0) <= MAX_DURATION:
        text = f"a pipe needs its duration in whole minutes, 1 to {MAX_DURATION}"
        raise RefusedError(problem(400, "InvalidInput", text, {"reason": "duration"}))
    if request.task_kind == "request" and request.duration is not None:
        text = "duration belongs to a pipe; a request has max_runtime"
        raise RefusedError(problem(400, "InvalidInput", text, {"reason": "duration"}))
    if request.task_kind == "pipe" and request.progress_timeout is not None:
        text = "progressTimeout belongs to a request; a pipe may be silent as long as it lasts"
        raise RefusedError(problem(400, "InvalidInput", text, {"reason": "progressTimeout"}))
    try:
        for kind, value in (("task id", request.task_id), ("parent task id", request.parent_task_id)):
            if value is not None:
                check_name(kind, value, TASK)
    except InvalidMessageError as error:
        raise RefusedError(problem(400, "InvalidInput", str(error), {"reason": error.reason})) from error
    if request.deadline is not None and not 0 <= request.deadline < 2**53:
        raise RefusedError(problem(400, "InvalidInput", "the deadline is not a time in unix milliseconds"))


def _check_kind(agent: AgentFacts, request: SubmitTask) -> None:
    """Refuse a kind of task that the agent's card does not list, where it lists any."""
    kinds = card_of(agent.card).listed_kinds
    if kinds and request.task_kind not in kinds:
        text = f"agent {agent.name!r} does no {request.task_kind} tasks: its card lists {', '.join(sorted(kinds))}"
        details = {"reason": "taskKind", "known": sorted(kinds)}
        raise RefusedError(problem(400, "InvalidInput", text, details))


def _check_parts(agent: AgentFacts, request: SubmitTask) -> None:
    """Refuse a part that the agent's card does not know, where the card names inputs at all."""
    known = card_of(agent.card).inputs
    if not known:
        return
    for part in decode_trusted(list[Any], bytes(request.request_parts)):
        part_id = part.get("partId") if isinstance(part, dict) else None
        if isinstance(part_id, str) and part_id not in known:
            text = f"agent {agent.name!r} has no input {part_id[:64]!r}: its card knows {', '.join(known)}"
            raise RefusedError(
                problem(400, "InvalidInput", text, {"reason": "part", "partId": part_id[:64], "known": list(known)})
            )


def _progress_timeout(request: SubmitTask, agent: AgentFacts) -> float | None:
    """Return within how many seconds a run has to say something: the shorter of the task's and its agent's."""
    if request.task_kind == "pipe":
        return None
    given = [each for each in (request.progress_timeout, agent.progress_timeout_sec) if each is not None]
    return float(min(given)) if given else None


def _has_stream(request: SubmitTask, agent: AgentFacts) -> bool:
    """Tell whether streams are negotiated: as asked for, else when the card declares any; always for a pipe."""
    if request.task_kind == "pipe":
        return True
    return bool(card_of(agent.card).streams) if request.stream is None else request.stream


def _start(consumer: Consumer, request: SubmitTask, agent: AgentFacts, depth: int) -> bytes:
    body = StartBody(
        agent_name=request.agent_name,
        owner_id=consumer.owner,
        org_id=consumer.owner,
        request_parts=msgspec.Raw(bytes(request.request_parts)),
        task_kind=request.task_kind,
        duration=request.duration,
        caller_claims={"sub": consumer.owner, **({"depth": depth} if depth else {})},
        request_summary=request.request_summary,
        consumer_public_key=request.consumer_public_key,
        has_stream=_has_stream(request, agent),
        metadata=request.metadata or {},
        parent_task_id=request.parent_task_id,
    )
    return encode(body)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _say_standing(ledger: Ledger, task_id: str, answer: SubmitAnswer) -> None:
    """Have the answer to a submit say how the task stands when all was offered that could be."""
    row = ledger.task(task_id)
    if row is not None:
        answer.state, answer.queued = shown(row), row.state == State.QUEUED.value
        answer.waits_for = waits_for(ledger, row)


def _accepted(row: TaskRecord, waiting: WaitsFor | None, *, new: bool = False) -> SubmitAnswer:
    return SubmitAnswer(
        task_id=row.id,
        state=shown(row),
        owner_id=row.owner,
        org_id=row.owner,
        status_channel=task_channel(row.owner, row.id),
        idempotent=not new,
        queued=row.state == State.QUEUED.value,
        waits_for=waiting,
    )
