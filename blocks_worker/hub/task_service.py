"""The verbs of tasks: those of consumers and those of runs, each inside a transaction that the caller opened."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, get_args

import msgspec

from blocks_worker.hub import steps
from blocks_worker.hub.answers import (
    Consumer,
    Holder,
    RefusedError,
    Reply,
    no_such_task,
    problem,
    task_row,
    waits_for,
)
from blocks_worker.hub.bell import Bell
from blocks_worker.hub.dispatch import Dispatch
from blocks_worker.hub.granted import Granted, nobody_follows
from blocks_worker.hub.purges import missing, purged
from blocks_worker.hub.questions import Questions
from blocks_worker.hub.reports import Reports, was_outrun
from blocks_worker.hub.shares import Shares
from blocks_worker.hub.store.filters import ANY
from blocks_worker.hub.store.shown import shown
from blocks_worker.hub.submits import Submits
from blocks_worker.hub.turns import Turns
from blocks_worker.protocol.lifecycle import NAMES, State
from blocks_worker.protocol.tasks import AnswerAnswer, CancelAnswer, DeadReason, EventsAnswer, TaskPage
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.store.filters import TaskFilter
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.leases import Claim, LateReport, Numbers, Report
    from blocks_worker.protocol.tasks import (
        AnswerTask,
        CancelTask,
        EventsQuery,
        PauseTask,
        RetryTask,
        SubmitTask,
        TaskRole,
        TaskRow,
    )

__all__ = ["Consumer", "Holder", "Reply", "TaskService"]

#: Reasons by which dead letters are listed.
DEAD = frozenset({ANY, *get_args(DeadReason)})
#: Most rows of one page, and most bytes of events in one answer.
MAX_PAGE = 256
#: Tasks of one owner that are counted for the total of a page.
MOST_COUNTED = 2048
MAX_EVENT_BYTES = 512 * 1024
#: Bytes of events in the answer to one batch: what a client reads in the few seconds that it has for a look.
MAX_BATCH_BYTES = 8 * 1024 * 1024


class TaskService:
    """Be the door to tasks. Everything runs on the store's writer thread, save the reads."""

    def __init__(
        self,
        *,
        numbers: Numbers,
        steady: SteadyClock,
        entropy: Entropy,
        secret: bytes,
        admits: Callable[[], bool] = lambda: True,
        shares: Shares | None = None,
        follows: Callable[[str, str], bool] = nobody_follows,
    ) -> None:
        shares = shares or Shares(Quotas(), steady)
        self.bell = Bell(steady, secret)
        self.granted = Granted(numbers, steady, follows)
        self.turns = Turns(numbers, steady, self.bell, self.granted, entropy)
        self.dispatch = Dispatch(self.turns, steady)
        self._submits = Submits(steady, entropy, self.dispatch, shares, admits)
        self.questions = Questions(steady, self.bell)
        self._reports = Reports(self.turns, self.questions, self.dispatch, self.granted, shares, secret)

    def submit(self, ledger: Ledger, consumer: Consumer, request: SubmitTask) -> Reply:
        """Take a task in: 201 new, 200 the same again; it is offered in the same transaction."""
        try:
            return self._submits.submit(ledger, consumer, request)
        except RefusedError as refused:
            return refused.reply

    def get(self, ledger: Ledger, consumer: Consumer, task_id: str, role: TaskRole = "consumer") -> Reply:
        """Return a task that the consumer sent, or that an agent of his was sent."""
        row = _seen(ledger, consumer, task_id, role)
        return missing(ledger, consumer, task_id) if row is None else Reply(200, task_row(row, waits_for(ledger, row)))

    def purge(self, ledger: Ledger, consumer: Consumer, task_id: str) -> Reply:
        """Purge a task that has ended: 200 with what stays of it, 409 while it goes on."""
        row = _own(ledger, consumer, task_id)
        reply = purged(ledger, consumer, row, task_id, self.turns.now_ms())
        if row is not None and row.is_ended:
            ledger.noted("task_purged", task=row.id, **_who(consumer))
        return reply

    def page(
        self,
        ledger: Ledger,
        consumer: Consumer,
        wanted: TaskFilter,
        *,
        cursor: str | None,
        limit: int,
    ) -> Reply:
        """Return the consumer's tasks, newest first."""
        for kind, word, known in (("state", wanted.state, NAMES), ("reason", wanted.dead, DEAD)):
            if word is not None and word not in known:
                text = f"no {kind} is called {word!r}; there are: {', '.join(sorted(known))}"
                return problem(400, "InvalidInput", text)
        most = max(1, min(limit, MAX_PAGE))
        rows = ledger.page(consumer.owner, wanted, before=cursor, most=most + 1)
        following = rows[most - 1].id if len(rows) > most else None
        total = ledger.count(consumer.owner, wanted, most=MOST_COUNTED)
        return Reply(200, TaskPage(tasks=_rows(ledger, rows[:most]), next=following, total_count=total))

    def events(
        self,
        ledger: Ledger,
        consumer: Consumer,
        query: EventsQuery,
        limit: int = MAX_PAGE,
        *,
        room: int = MAX_EVENT_BYTES,
    ) -> Reply:
        """Return the stored events after a number, and the row of the same moment.

        `room`: bytes for the events. Where there is any, one event comes at least; without, the row alone.
        """
        row = _seen(ledger, consumer, query.task_id, query.role)
        if row is None:
            return missing(ledger, consumer, query.task_id)
        most = max(1, min(limit, MAX_PAGE)) if room > 0 else 0
        found = ledger.events(row.id, query.after, most + 1)
        kept = _within(found[:most], min(room, MAX_EVENT_BYTES))
        raw = [msgspec.Raw(body) for body in kept]
        return Reply(
            200, EventsAnswer(task=task_row(row, waits_for(ledger, row)), events=raw, more=len(kept) < len(found))
        )

    def listen(self, ledger: Ledger, consumer: Consumer, query: EventsQuery) -> Reply:
        """Have a task that goes on speak on the consumer's session channel too; one that is over says no more."""
        row = _seen(ledger, consumer, query.task_id, query.role)
        if row is None:
            return missing(ledger, consumer, query.task_id)
        if query.listen is not None and consumer.session_channel is not None and not row.is_ended:
            ledger.watch(row, query.listen, consumer.session_channel)
        return Reply(200, task_row(row))

    def cancel(self, ledger: Ledger, consumer: Consumer, task_id: str, request: CancelTask) -> Reply:
        """Cancel: 202 once the flag is set, 200 when the task had ended before."""
        row = _own(ledger, consumer, task_id)
        if row is None:
            return no_such_task()
        if row.is_ended:
            return Reply(200, CancelAnswer(task_id=row.id, state=shown(row), already_ended=True))
        ledger.noted("task_cancelled", task=row.id, terminated=request.terminated, **_who(consumer))
        self.turns.cancel(ledger, row, request.reason, terminated=request.terminated)
        self.dispatch.route(ledger, row.agent)
        row = ledger.task(task_id) or row
        return Reply(202, CancelAnswer(task_id=row.id, state=shown(row)))

    def retry(self, ledger: Ledger, consumer: Consumer, task_id: str, request: RetryTask) -> Reply:
        """Send a task that failed or was canceled again as a new one: 201, 200 for the same again."""
        row = _own(ledger, consumer, task_id)
        if row is None:
            return missing(ledger, consumer, task_id)
        try:
            reply = self._submits.again(ledger, consumer, row, request)
        except RefusedError as refused:
            return refused.reply
        ledger.noted("task_sent_again", task=row.id, **_who(consumer))
        return reply

    def pause(self, ledger: Ledger, consumer: Consumer, task_id: str, request: PauseTask, *, on: bool) -> Reply:
        """Turn the pause flag: 202, 200 when it was so or the task had ended, 409 when the caller knows an old row."""
        row = _own(ledger, consumer, task_id)
        if row is None:
            return no_such_task()
        repeated = row.pause_seq == request.pause_seq + 1 and bool(row.pause) is on
        if row.is_ended or repeated:
            return Reply(200, task_row(row))
        if not self.turns.pause(ledger, row, request.pause_seq, on=on):
            text = f"the task was paused or resumed {row.pause_seq} times by now: look at it again"
            details = {"state": shown(row), "pause": bool(row.pause), "pauseSeq": row.pause_seq}
            return problem(409, "PauseOutdated", text, details)
        ledger.noted("task_paused" if on else "task_resumed", task=row.id, **_who(consumer))
        self.dispatch.route(ledger, row.agent)
        return Reply(202, task_row(ledger.task(task_id) or row))

    def answer(self, ledger: Ledger, consumer: Consumer, task_id: str, request: AnswerTask) -> Reply:
        """Answer the question of a task: 200, 400 it does not fit, 409 with what stands where it is not asked."""
        row = _own(ledger, consumer, task_id)
        if row is None:
            return no_such_task()
        reply = self.questions.answer(ledger, row, request)
        if isinstance(reply.body, AnswerAnswer) and not reply.body.already:
            ledger.noted("task_answered", task=row.id, ask=request.ask_id, **_who(consumer))
            self.dispatch.route(ledger, row.agent)
        return reply

    def steps(self, ledger: Ledger, who: Consumer | Holder, task_id: str, after: str) -> Reply:
        """Return what runs of a task stored, to its owner and to who holds it: 200, 404, 410 purged."""
        return steps.page(ledger, who, task_id, after)

    def claim(self, ledger: Ledger, holder: Holder, item: Claim) -> Reply:
        """Give the lease of an offer, or take the refusal: 200, 409 fenced, 410 over."""
        reply = self._reports.claim(ledger, holder, item)
        if reply.status == HTTPStatus.CONFLICT and was_outrun(ledger, holder, item):
            ledger.counted("claims_outrun")
            return reply
        return _unless_fenced(ledger, reply)

    def report(self, ledger: Ledger, holder: Holder, item: Report) -> Reply:
        """Store what a run says: 200, 409 fenced, 422 with the number expected next."""
        return _unless_fenced(ledger, self._reports.report(ledger, holder, item))

    def report_late(self, ledger: Ledger, owner: str, item: LateReport) -> Reply:
        """Store what a process that died could not bring any more, as `report` does."""
        return _unless_fenced(ledger, self._reports.late(ledger, owner, item))


def _who(consumer: Consumer) -> dict[str, str]:
    """Return who asks, as the audit names him."""
    return {"by": consumer.owner, "key": consumer.key}


def _unless_fenced(ledger: Ledger, reply: Reply) -> Reply:
    """Count an answer that tells somebody that he holds no lease."""
    ledger.counted("fenced_writes", happened=reply.status == HTTPStatus.CONFLICT)
    return reply


def _own(ledger: Ledger, consumer: Consumer, task_id: str) -> TaskRecord | None:
    row = ledger.task(task_id)
    return row if row is not None and row.owner == consumer.owner else None


def _seen(ledger: Ledger, consumer: Consumer, task_id: str, role: TaskRole) -> TaskRecord | None:
    """Return a task that the caller may look at in this role."""
    if role == "consumer":
        return _own(ledger, consumer, task_id)
    row = ledger.task(task_id)
    agent = None if row is None else ledger.agent(row.agent)
    return row if agent is not None and agent.owner == consumer.owner else None


def _rows(ledger: Ledger, rows: list[TaskRecord]) -> list[TaskRow]:
    """Return tasks as their owner sees them; what they wait for is looked up once for each agent."""
    queued = {row.agent: row for row in rows if row.state == State.QUEUED.value}
    waiting = {agent: waits_for(ledger, row) for agent, row in queued.items()}
    return [task_row(row, waiting[row.agent] if row.state == State.QUEUED.value else None) for row in rows]


def _within(events: list[bytes], room: int) -> list[bytes]:
    """Return as many events as fit, one at least."""
    size = 0
    for place, body in enumerate(events):
        size += len(body)
        if place and size > room:
            return events[:place]
    return events
