"""The turns of a task as statements: each tells whether the row was as expected, and is changed now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.hub.store import statements as sql
from blocks_worker.hub.store.records import AnswerRecord
from blocks_worker.hub.store.transaction import Transaction
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, FORCED, State

if TYPE_CHECKING:
    from blocks_worker.hub.store.records import TaskRecord


class TaskTurns(Transaction):
    """Be the half of the ledger that changes tasks: one compare-and-set a verb."""

    def offer(self, row: TaskRecord, by: str, *, now: int, until: int, due: int | None) -> bool:
        """Offer a waiting task to an incarnation, or to `EVERYBODY`: the epoch rises."""
        after = _anew(row, by, now, due, state=State.OFFERED.value, offer_until=until, leased_at=None)
        return self._kept_turn(sql.OFFER, row, after, by=by, now=now, until=until, due=due)

    def grant(self, row: TaskRecord, by: str, *, now: int, due: int | None) -> bool:
        """Offer a waiting task to an incarnation and give it the lease at once: the epoch rises."""
        held = {"state": State.RUNNING.value, "attempt": row.attempt + 1, "queue_until": None, "leased_at": now}
        after = _anew(row, by, now, due, **held)
        return self._kept_turn(sql.GRANT, row, after, by=by, now=now, due=due)

    def claim(self, row: TaskRecord, by: str, *, now: int, due: int | None, expires: int | None = None) -> bool:
        """Give the lease to an incarnation it was offered to; `expires`: when the time of a pipe is over."""
        after = row.changed(
            state=State.RUNNING.value,
            inc=by,
            attempt=row.attempt + 1,
            leased_at=now,
            expires_at=expires,
            queue_until=None,
            offer_until=None,
            due_at=due,
            updated=now,
        )
        return self._kept_turn(sql.CLAIM, row, after, by=by, now=now, due=due, expires=expires)

    def withdraw(self, row: TaskRecord, by: str, *, now: int, due: int | None) -> bool:
        """Take an offer back into the queue, at no cost to the task."""
        return self._turn(sql.WITHDRAW, row, by=by, now=now, due=due)

    def take_back(self, row: TaskRecord, by: str, *, now: int, due: int | None) -> bool:
        """Take a task that the incarnation never started into the queue; what it does is fenced."""
        return self._turn(sql.TAKE_BACK, row, by=by, now=now, due=due)

    def lose(self, row: TaskRecord, by: str, *, now: int, due: int | None, max_lost: int) -> bool:
        """End the lease of an incarnation that is gone; its late result still counts."""
        return self._turn(sql.LOSE, row, by=by, now=now, due=due, max_lost=max_lost)

    def release(self, row: TaskRecord, by: str, *, now: int, due: int | None) -> bool:
        """Take back a task that its holder gave back."""
        return self._turn(sql.RELEASE, row, by=by, now=now, due=due)

    def retry(self, row: TaskRecord, by: str, *, now: int, ready: int, due: int | None, said: str, n: int) -> bool:
        """Put a task whose run failed back: it is offered again once `ready` has come, and asks again what it asked."""
        if not self._turn(sql.RETRY, row, by=by, was=row.state, now=now, ready=ready, due=due, said=said, n=n):
            return False
        self._group.execute(sql.FORGET_CLOSED, {"key": row.id})
        return True

    def ready(self, row: TaskRecord, *, now: int, due: int | None) -> bool:
        """Have a task offered whose delay, or pause between two runs, is over."""
        return self._turn(sql.READY, row, now=now, due=due)

    def ask(self, row: TaskRecord, by: str, *, now: int, due: int | None, ask: str, until: int, question: str) -> bool:
        """Open a question of a run, unless it was answered or closed before."""
        return self._turn(sql.ASK, row, by=by, now=now, due=due, ask=ask, until=until, question=question)

    def answer(self, row: TaskRecord, *, now: int, due: int | None, ask: str, value: bytes) -> bool:
        """Store the answer to the open question; the run goes on, or the next one begins."""
        if not self._run(sql.ANSWER, key=row.id, now=now, due=due, ask=ask):
            return False
        return self._answered(row, ask, value, now)

    def ask_closed(self, row: TaskRecord, by: str, *, now: int, due: int | None, ask: str) -> bool:
        """Close a question for which its run waits no more, if it is open."""
        return self._turn(sql.ASK_CLOSED, row, by=by, now=now, due=due, ask=ask) and self._answered(row, ask, None, now)

    def ask_expired(self, row: TaskRecord, *, now: int, due: int | None, ask: str) -> bool:
        """Close a question whose time is over and that no run waits for: the next run is told."""
        return self._turn(sql.ASK_EXPIRED, row, now=now, due=due, ask=ask) and self._answered(row, ask, None, now)

    def unhold(self, row: TaskRecord, by: str, *, now: int, due: int | None) -> bool:
        """Take the holder from a task that waits for an answer; the question stays open."""
        return self._turn(sql.UNHOLD, row, by=by, now=now, due=due)

    def answers(self, task_id: str) -> list[AnswerRecord]:
        """Return what was answered to the questions of a task."""
        return [AnswerRecord._make(row) for row in self._group.look(sql.ANSWERS, {"key": task_id}).fetchall()]

    def answer_to(self, task_id: str, ask: str) -> AnswerRecord | None:
        """Return what was answered to one question."""
        row = self._group.look(sql.ANSWER_TO, {"key": task_id, "ask": ask}).fetchone()
        return None if row is None else AnswerRecord._make(row)

    def count_answers(self, task_id: str) -> int:
        """Count the questions of a task that were answered, or closed."""
        return int(self._group.look(sql.COUNT_ANSWERS, {"key": task_id}).fetchone()[0])

    def copy_answers(self, task_id: str, to: str) -> None:
        """Give a task the answers of another one; what nobody answered is asked again."""
        for each in self.answers(task_id):
            if each.value is not None:
                self._group.execute(sql.INSERT_ANSWER, each._replace(task=to)._asdict())

    def cancel_held(self, task_id: str, *, now: int, due: int, why: str | None) -> bool:
        """Set the flag of a running task."""
        return self._run(sql.CANCEL_HELD, key=task_id, now=now, due=due, why=why)

    def expire_held(self, row: TaskRecord, *, now: int, due: int, why: str) -> bool:
        """Begin to end a pipe whose time is over."""
        return self._turn(sql.EXPIRE_HELD, row, now=now, due=due, why=why)

    def pause(self, task_id: str, was: int, *, now: int, flag: bool) -> bool:
        """Turn the pause flag, if it was turned as often as `was` so far."""
        return self._run(sql.PAUSE, key=task_id, was=was, now=now, flag=int(flag))

    def say_paused(self, row: TaskRecord, by: str, *, flag: bool) -> bool:
        """Note that the handler waits for its resume, or goes on."""
        return self._turn(sql.SAY_PAUSED, row, by=by, flag=int(flag))

    def park(self, row: TaskRecord, by: str, *, flag: bool) -> bool:
        """Note whether the run takes a slot."""
        return self._turn(sql.PARK, row, by=by, flag=int(flag))

    def heard_of(self, row: TaskRecord, by: str, *, now: int) -> bool:
        """Note that the holder said something of its run."""
        return self._turn(sql.HEARD_OF, row, by=by, now=now)

    def hasten(self, task_id: str, *, now: int, due: int, why: str | None) -> bool:
        """Shorten the grace of a cancel that is on its way."""
        return self._run(sql.HASTEN, key=task_id, now=now, due=due, why=why)

    # -------------------------------------------------------------------------------------------- ends
    def cancel_unheld(self, task_id: str, *, now: int, purge: int, why: str | None) -> bool:
        """End a task that nobody holds; a claim in flight is fenced."""
        return self._run(sql.CANCEL_UNHELD, key=task_id, now=now, purge=purge, why=why)

    def expire(self, row: TaskRecord, *, now: int, purge: int, why: str, dead: str | None) -> bool:
        """End a task whose time is over; `dead`: why it is given up, where it is."""
        return self._turn(sql.EXPIRE, row, now=now, purge=purge, why=why, dead=dead, **_TIMEOUT)

    def outcome(self, row: TaskRecord, by: str, outcome: dict[str, Any]) -> bool:
        """Record how a run ended; `outcome` holds now, purge, to, n, said, why, fault, fault_code and dead."""
        after = row.changed(
            state=outcome["to"],
            inc=None,
            lost_inc=None,
            offer_until=None,
            due_at=None,
            ready_at=None,
            updated=outcome["now"],
            ended=outcome["now"],
            purge_at=outcome["purge"],
            reason=outcome["why"],
            outcome_digest=outcome["said"],
            error=outcome["fault"],
            error_code=outcome["fault_code"],
            dead_reason=outcome["dead"],
            ask_id=None,
            ask_until=None,
        )
        return self._kept_turn(sql.OUTCOME, row, after, by=by, was=row.state, **outcome)

    def lose_for_good(self, row: TaskRecord, by: str, *, now: int, purge: int, max_lost: int, dead: str) -> bool:
        """Fail a task whose lease was lost and that may not be run again; `dead`: why it is given up."""
        values = {"now": now, "purge": purge, "max_lost": max_lost, "dead": dead}
        return self._turn(sql.LOSE_FOR_GOOD, row, by=by, **values, **_LEASE_LOST)

    def take_for_good(self, row: TaskRecord, by: str, *, now: int, purge: int, dead: str) -> bool:
        """Fail a task that would be taken back and may not be run again; `dead`: why it is given up."""
        return self._turn(sql.TAKE_FOR_GOOD, row, by=by, now=now, purge=purge, dead=dead, **_LEASE_LOST)

    def release_for_good(self, row: TaskRecord, by: str, *, now: int, purge: int) -> bool:
        """Cancel a task that was given back and may not be run again."""
        return self._turn(sql.RELEASE_FOR_GOOD, row, by=by, now=now, purge=purge, why="drained")

    def force(self, row: TaskRecord, by: str, *, now: int, purge: int) -> bool:
        """End a task whose cancel, or end of time, was not obeyed in time."""
        if row.state == State.EXPIRING.value:
            fault = fault_of(row.reason)
            return self._turn(sql.FORCE_EXPIRED, row, by=by, now=now, purge=purge, why=row.reason, **fault)
        return self._turn(sql.FORCE, row, by=by, now=now, purge=purge, why=FORCED)

    # -------------------------------------------------------------------------------------------- inside
    def _run(self, text: str, **values: Any) -> bool:
        return self._group.execute(text, values).rowcount == 1

    def _answered(self, row: TaskRecord, ask: str, value: bytes | None, now: int) -> bool:
        self._group.execute(sql.INSERT_ANSWER, AnswerRecord(row.id, ask, value, now)._asdict())
        return True

    def _turn(self, text: str, row: TaskRecord, **values: Any) -> bool:
        return self._run(text, key=row.id, e=row.epoch, **values)

    def _kept_turn(self, text: str, row: TaskRecord, after: TaskRecord, **values: Any) -> bool:
        """Make a frequent turn, behind which the row is as in `after`."""
        return self._group.turn(text, row, {"key": row.id, "e": row.epoch, **values}, after)


def _anew(row: TaskRecord, by: str, now: int, due: int | None, **values: Any) -> TaskRecord:
    """Return a task in a new epoch of somebody's, of which nothing was said yet."""
    return row.changed(
        epoch=row.epoch + 1,
        inc=by,
        lost_inc=None,
        outcome_digest=None,
        last_n=0,
        event_bytes=0,
        paused=0,
        parked=0,
        due_at=due,
        updated=now,
        **values,
    )


def fault_of(limit: str | None) -> dict[str, str | None]:
    """Return what an expired task has for an error: a pipe that lived as long as was wanted has none."""
    fault = None if limit == DURATION_EXPIRED else "timeout"
    return {"fault": fault, "fault_code": fault}


_TIMEOUT = {"fault": "timeout", "fault_code": "timeout"}
_LEASE_LOST = {"why": None, "fault": "lease_lost", "fault_code": "lease_lost"}
