"""What a run says: its claim, its events, its outcome or that it is given back, each from the holder only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub import steps
from blocks_worker.hub.answers import Holder, Reply, fenced, flags, problem, report_answer
from blocks_worker.hub.leases import is_lease, lease_for
from blocks_worker.protocol.events import check_event
from blocks_worker.protocol.instances import INSTANCE_GONE, InstanceState
from blocks_worker.protocol.leases import Claim, ClaimAnswer, Report, ReportAnswer
from blocks_worker.protocol.lifecycle import EVERYBODY, PAUSED, RESUMED, State

if TYPE_CHECKING:
    from blocks_worker.hub.dispatch import Dispatch
    from blocks_worker.hub.granted import Granted
    from blocks_worker.hub.questions import Questions
    from blocks_worker.hub.shares import Shares
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import InstanceRecord, TaskRecord
    from blocks_worker.hub.turns import Turns
    from blocks_worker.protocol.events import EventHead
    from blocks_worker.protocol.leases import LateReport, ReportEvent
    from blocks_worker.protocol.steps import Step


#: States in which a task may have been lost by its last holder and be nobody's since.
_UNHELD = frozenset({State.QUEUED.value, State.INPUT_REQUIRED.value})


def incarnation_unknown() -> Reply:
    """Tell an incarnation that it is over."""
    return problem(410, "IncarnationUnknown", "this incarnation is over: connect again with a new one")


def gone(row: InstanceRecord | None) -> Reply | None:
    """Return the refusal for an incarnation that is not there any more."""
    if row is None:
        return incarnation_unknown()
    state = InstanceState(row.state)
    if state is InstanceState.SUPERSEDED:
        return problem(410, "Superseded", "a newer process runs under this instance name")
    return incarnation_unknown() if state in INSTANCE_GONE else None


def was_outrun(ledger: Ledger, holder: Holder, item: Claim) -> bool:
    """Tell whether an offer to all instances was claimed by another one before: so it goes with all but one of them."""
    row = ledger.task(item.task_id)
    if row is None or row.agent != holder.agent_name or row.epoch != item.epoch or row.inc == holder.incarnation:
        return False
    facts = ledger.agent(row.agent)
    return facts is not None and facts.is_broadcast and (row.is_held or row.is_ended)


class Reports:
    """Answer claims and reports."""

    def __init__(
        self,
        turns: Turns,
        questions: Questions,
        dispatch: Dispatch,
        granted: Granted,
        shares: Shares,
        secret: bytes,
    ) -> None:
        self._granted = granted
        self._turns = turns
        self._shares = shares
        self._questions = questions
        self._dispatch = dispatch
        self._secret = secret

    # -------------------------------------------------------------------------------------------- claims
    def claim(self, ledger: Ledger, holder: Holder, item: Claim) -> Reply:
        """Give the lease of an offer, the same one when it is asked for again."""
        self._granted.heard([(item.task_id, item.epoch)])
        row = ledger.task(item.task_id)
        if item.nack is not None:
            return self._nack(ledger, holder, item, row)
        if row is None or not _is_his(ledger, row, holder, item.epoch):
            return self._no_lease(ledger, holder, item, row)
        if row.state == State.OFFERED.value:
            if not self._turns.claim(ledger, row, holder.incarnation):
                return self._no_lease(ledger, holder, item, ledger.task(row.id))
            if row.inc == EVERYBODY:
                # Who did not get it has room again.
                self._dispatch.route(ledger, row.agent)
            row = ledger.task(row.id) or row
        return Reply(200, self._lease(ledger, holder, item, row))

    def _nack(self, ledger: Ledger, holder: Holder, item: Claim, row: TaskRecord | None) -> Reply:
        his = row is not None and _is_his(ledger, row, holder, item.epoch)
        if row is not None and his:
            if row.state == State.OFFERED.value:
                self._turns.decline(ledger, row, holder.incarnation)
            elif row.is_held and row.may_run_again:
                # It was given with its offer, and not begun.
                self._turns.take_back(ledger, row, holder.incarnation)
            self._dispatch.refused(holder.incarnation)
            self._dispatch.route(ledger, row.agent)
        nothing = ClaimAnswer(task_id=item.task_id, epoch=item.epoch, lease="", attempt=0, digest="", max_runtime=0.0)
        return Reply(200, nothing)

    def _no_lease(self, ledger: Ledger, holder: Holder, item: Claim, row: TaskRecord | None) -> Reply:
        over = gone(ledger.instance(holder.incarnation))
        if over is not None:
            return over
        if row is None or row.agent != holder.agent_name:
            return fenced(item.task_id, item.epoch)
        if row.state == State.CANCELLED.value:
            return problem(410, "TaskCancelled", "the task was cancelled before it started")
        return report_answer(409, row)

    def _lease(self, ledger: Ledger, holder: Holder, item: Claim, row: TaskRecord) -> ClaimAnswer:
        return ClaimAnswer(
            task_id=row.id,
            epoch=row.epoch,
            lease=lease_for(self._secret, row.id, row.epoch, holder.incarnation),
            attempt=row.attempt,
            digest=row.digest,
            start=msgspec.UNSET if item.have == row.digest else msgspec.Raw(ledger.start(row.id)),
            max_runtime=row.max_runtime,
            progress_timeout=row.progress_timeout,
            deadline=row.deadline,
            expires_at=row.expires_at,
            steps=steps.for_claim(ledger, row),
            delivery=row.delivery,  # type: ignore[arg-type]  # checked when the task was taken in
            answers=self._questions.flags(ledger, row) or msgspec.UNSET,
            **flags(row),
        )

    # -------------------------------------------------------------------------------------------- reports
    def report(self, ledger: Ledger, holder: Holder, item: Report) -> Reply:
        """Store what a run says, in its order: steps, events, a question's end, then its outcome or its release."""
        if not is_lease(self._secret, item.lease, item.task_id, item.epoch, holder.incarnation):
            return fenced(item.task_id, item.epoch)
        self._granted.heard([(item.task_id, item.epoch)])
        row = ledger.task(item.task_id)
        if row is None:
            return fenced(item.task_id, item.epoch)
        if not _speaks(row, holder, item):
            return _replay(row, item)
        try:
            heads = [check_event(bytes(one.body)) for one in item.events]
            stored = steps.keep(ledger, row, holder.incarnation, item.steps) if row.is_held else []
            if stored and row.progress_timeout is not None:
                # A step is a sign of life as an event is, which changes the row by itself.
                ledger.heard_of(row, holder.incarnation, now=self._turns.now_ms())
                row = ledger.task(row.id) or row
            reply = self._apply(ledger, holder, item, row, heads)
            return _with_steps(self._answering(ledger, item, row, heads, reply), stored)
        except InvalidMessageError as error:
            return problem(400, "InvalidInput", str(error), {"reason": error.reason})

    def late(self, ledger: Ledger, owner: str, item: LateReport) -> Reply:
        """Store what a process life of this owner left behind: the lease in the report proves that it was his."""
        row = ledger.instance(item.incarnation)
        if row is None or row.owner != owner:
            return fenced(item.report.task_id, item.report.epoch)
        holder = Holder(row.agent_id, row.agent, row.instance_id, row.incarnation, row.owner)
        return self.report(ledger, holder, item.report)

    def _answering(self, ledger: Ledger, item: Report, row: TaskRecord, heads: list[EventHead], reply: Reply) -> Reply:
        """Tell a run what was answered to the questions that this report asks, again or not, or closes."""
        asks = [head.ask_id for head in heads if head.type == "question"]
        asks += [] if item.ask_closed is None else [item.ask_closed]
        if asks and isinstance(reply.body, ReportAnswer):
            reply.body.answers = self._questions.told(ledger, row, asks) or msgspec.UNSET
        return reply

    def _apply(self, ledger: Ledger, holder: Holder, item: Report, row: TaskRecord, heads: list[EventHead]) -> Reply:
        new = [one for one in item.events if one.n > row.last_n]
        if not _contiguous(new, row.last_n):
            return report_answer(422, row, expected_n=row.last_n + 1)
        refused = self._shares.refusal_of_events(row, len(new), sum(memoryview(one.body).nbytes for one in new))
        if refused is not None:
            return refused
        told = heads[len(heads) - len(new) :]
        asked = self._questions.checked(ledger, row, told) if row.is_held else []
        last_n = row.last_n + len(new)
        holes = item.outcome is not None and item.outcome.last_n != last_n
        if holes and not row.is_held:
            return report_answer(422, row, expected_n=row.last_n + 1)
        if new:
            if not ledger.append(row, holder.incarnation, new, self._turns.now_ms()):
                return _replay(ledger.task(row.id) or row, item)
            row = ledger.task(row.id) or row
            self._note_pause(ledger, row, holder, told)
        if asked or item.ask_closed is not None:
            self._questions.asked(ledger, row, holder.incarnation, asked)
            if item.ask_closed is not None:
                self._questions.closed(ledger, row, holder.incarnation, item.ask_closed)
            row = ledger.task(row.id) or row
        if holes:
            return report_answer(422, row, expected_n=row.last_n + 1)
        return self._end(ledger, holder, item, row)

    def _note_pause(self, ledger: Ledger, row: TaskRecord, holder: Holder, told: list[EventHead]) -> None:
        """Take over from a run's events whether it waits for its resume."""
        turns = [head.status for head in told if head.type == "system" and head.status in {PAUSED, RESUMED}]
        if turns:
            ledger.say_paused(row, holder.incarnation, flag=turns[-1] == PAUSED)

    def _end(self, ledger: Ledger, holder: Holder, item: Report, row: TaskRecord) -> Reply:
        if item.outcome is not None:
            if item.outcome.state == "expired" and not row.is_pipe:
                raise InvalidMessageError("shape", "only the time of a pipe runs out")
            done = self._turns.outcome(ledger, row, holder.incarnation, item.outcome)
        elif item.release:
            done = self._turns.release(ledger, row, holder.incarnation)
        else:
            return report_answer(200, row)
        if not done:
            return _replay(ledger.task(row.id) or row, item)
        self._dispatch.route(ledger, row.agent, put_back=item.outcome is None)
        return report_answer(200, ledger.task(row.id) or row)


def _is_his(ledger: Ledger, row: TaskRecord, holder: Holder, epoch: int) -> bool:
    """Tell whether the task is held by, or offered to, this one."""
    if row.epoch != epoch:
        return False
    return row.inc == holder.incarnation or (row.inc == EVERYBODY and holder.incarnation in ledger.offered_to(row))


def _speaks(row: TaskRecord, holder: Holder, item: Report) -> bool:
    """Tell whether the report is the holder's, or the late result of the last one."""
    if row.epoch != item.epoch:
        return False
    if row.is_held:
        return row.inc == holder.incarnation
    late = row.state in _UNHELD and row.lost_inc == holder.incarnation
    return late and item.outcome is not None


def _replay(row: TaskRecord, item: Report) -> Reply:
    """Answer what was said before with 200 again, and anybody else with 409."""
    same = row.epoch == item.epoch
    if same and item.outcome is not None and row.outcome_digest == item.outcome.digest:
        return report_answer(200, row)
    released = row.state == State.QUEUED.value and row.inc is None and row.lost_inc is None
    released = released or (row.state == State.INPUT_REQUIRED.value and row.inc is None)
    if same and item.release and released:
        return report_answer(200, row)
    return report_answer(409, row)


def _with_steps(reply: Reply, stored: list[Step]) -> Reply:
    """Tell a run what is stored under the names that it sent."""
    if stored and isinstance(reply.body, ReportAnswer):
        reply.body.steps = stored
    return reply


def _contiguous(events: list[ReportEvent], last_n: int) -> bool:
    return all(one.n == last_n + place for place, one in enumerate(events, start=1))
