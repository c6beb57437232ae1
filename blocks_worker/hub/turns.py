"""The turns of a task as the hub makes them: the compare-and-set, its events, and who is told.

Each verb takes the row as it was read in the same transaction, and tells whether the turn was made. A turn to
an end stores the terminal event with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.hub.dead_letters import dead_by_limit, dead_by_loss, dead_by_outcome, kept_for
from blocks_worker.hub.due import RETENTION_MS, due_asking, due_offered, due_queued, due_running, expiry
from blocks_worker.hub.questions import has_answers
from blocks_worker.hub.retries import USUAL, pause_before_next, told
from blocks_worker.hub.steps import has_any
from blocks_worker.hub.store.shown import shown
from blocks_worker.hub.store.task_turns import fault_of
from blocks_worker.protocol.codec import fitting
from blocks_worker.protocol.leases import MAX_ERROR
from blocks_worker.protocol.lifecycle import (
    DURATION_EXPIRED,
    EVERYBODY,
    FORCED,
    PARENT_ENDED,
    PAUSED,
    QUEUED,
    RESUMED,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.bell import Bell
    from blocks_worker.hub.granted import Granted
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import Candidate, TaskRecord
    from blocks_worker.hub.store.transaction import Publication
    from blocks_worker.protocol.leases import Numbers, Outcome

_TO = {
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "canceled": State.CANCELLED,
    "expired": State.EXPIRED,
}
#: Where a run ends that was told to stop, unless its result was there first.
_STOPPED = {State.CANCELLING.value: State.CANCELLED, State.EXPIRING.value: State.EXPIRED}


class Turns:
    """Make turns of tasks."""

    def __init__(self, numbers: Numbers, steady: SteadyClock, bell: Bell, granted: Granted, entropy: Entropy) -> None:
        self._granted = granted
        self._numbers = numbers
        self._steady = steady
        self._bell = bell
        self._entropy = entropy

    def now_ms(self) -> int:
        """Return the hub's time."""
        return self._steady.now_ms()

    def prepare(self, ledger: Ledger, rows: Sequence[TaskRecord]) -> None:
        """Read at once what offers of these tasks carry with them."""
        ledger.read_starts(rows, self._numbers.inline_input)

    def offer(self, ledger: Ledger, row: TaskRecord, to: Candidate) -> bool:
        """Offer a waiting task, with its lease where that may be; say that it starts again when somebody had run it."""
        if self._granted.allows(row, to) and not has_any(ledger, row) and not has_answers(ledger, row):
            start = ledger.start(row.id)
            now = self._steady.now_ms()
            said = self._bell.granted(to, row, start, now) if len(start) <= self._numbers.inline_input else None
            if said is not None:
                return self._given(ledger, row, to, said, now)
        return self._offered(ledger, row, to.incarnation, [to])

    def broadcast(self, ledger: Ledger, row: TaskRecord, to: Sequence[Candidate]) -> bool:
        """Offer a waiting task to all of these at once: the first claim gets it."""
        if not self._offered(ledger, row, EVERYBODY, to):
            return False
        ledger.offer_with_others(row.id, [one.incarnation for one in to])
        return True

    def claim(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Give the lease; who was offered the task besides is told that it is gone."""
        now = self._steady.now_ms()
        due, expires = due_running(row, now), expiry(row, now)
        return ledger.claim(row, by, now=now, due=due, expires=expires) and self._called_off(ledger, row, but=by)

    def decline(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Undo the offer to one incarnation: with the last one the task goes back into the queue."""
        if row.inc != EVERYBODY:
            return self.withdraw(ledger, row, by)
        declined = ledger.decline(row.id, by)
        return declined and (bool(ledger.offered_to(row)) or self.withdraw(ledger, row, EVERYBODY))

    def withdraw(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Undo an offer."""
        undone = ledger.withdraw(row, by, now=self._steady.now_ms(), due=due_queued(row))
        return ledger.counted("offers_taken_back", happened=undone) and self._called_off(ledger, row)

    def lose(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """End whatever right an incarnation that is gone has on the task."""
        if row.state == State.OFFERED.value:
            return self.decline(ledger, row, by)
        return ledger.counted("lease_lost", happened=self._lose_held(ledger, row, by))

    def _lose_held(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        now, limit = self._steady.now_ms(), self._numbers.max_lost
        if row.state in _STOPPED:
            return self.force(ledger, row, by)
        if self._left_asking(ledger, row, by) or ledger.lose(row, by, now=now, due=due_queued(row), max_lost=limit):
            return True
        dead = dead_by_loss(row)
        ended = ledger.lose_for_good(row, by, now=now, purge=now + kept_for(dead), max_lost=limit, dead=dead)
        return ended and self._said_end(ledger, row.id)

    def take_back(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Take a task from an incarnation that does not know of it."""
        return ledger.counted("leases_taken_back", happened=self._take_held(ledger, row, by))

    def _take_held(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        now = self._steady.now_ms()
        if row.state in _STOPPED:
            return self.force(ledger, row, by)
        if self._left_asking(ledger, row, by) or ledger.take_back(row, by, now=now, due=due_queued(row)):
            return True
        dead = dead_by_loss(row)
        ended = ledger.take_for_good(row, by, now=now, purge=now + kept_for(dead), dead=dead)
        return ended and self._said_end(ledger, row.id)

    def release(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Take a task that its holder gives back."""
        return ledger.counted("leases_released", happened=self._release_held(ledger, row, by))

    def _release_held(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        now = self._steady.now_ms()
        if row.state in _STOPPED:
            return self.force(ledger, row, by)
        if self._left_asking(ledger, row, by) or ledger.release(row, by, now=now, due=due_queued(row)):
            return True
        ended = ledger.release_for_good(row, by, now=now, purge=now + RETENTION_MS)
        return ended and self._said_end(ledger, row.id)

    def _left_asking(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """Leave the question open of a task whose run is gone; tell whether there was one that may wait so."""
        asks = row.state == State.INPUT_REQUIRED.value
        return asks and ledger.unhold(row, by, now=self._steady.now_ms(), due=due_asking(row))

    def force(self, ledger: Ledger, row: TaskRecord, by: str) -> bool:
        """End a task whose cancel found nobody to obey it."""
        now = self._steady.now_ms()
        return ledger.force(row, by, now=now, purge=now + RETENTION_MS) and self._said_end(ledger, row.id)

    def outcome(self, ledger: Ledger, row: TaskRecord, by: str, outcome: Outcome) -> bool:
        """Record how the run ended; a result made before a cancel was obeyed stands, a failure may not be the last."""
        pause = pause_before_next(row, outcome, self._entropy)
        if pause is not None:
            return self._retry(ledger, row, by, outcome, pause)
        now = self._steady.now_ms()
        values = _recorded(row, outcome) | {"said": outcome.digest, "n": outcome.last_n}
        dead = dead_by_outcome(row, outcome)
        values |= {"now": now, "purge": now + kept_for(dead), "dead": dead}
        return ledger.outcome(row, by, values) and self._said_end(ledger, row.id)

    def ready(self, ledger: Ledger, row: TaskRecord) -> bool:
        """Have a task offered whose delay, or pause between two runs, is over."""
        return ledger.ready(row, now=self._steady.now_ms(), due=due_queued(row.changed(ready_at=None)))

    def expire(self, ledger: Ledger, row: TaskRecord, why: str) -> bool:
        """End a task whose time is over, and tell who runs it; a pipe's streams are ended first."""
        now = self._steady.now_ms()
        if row.is_pipe and row.is_held:
            due = now + int(self._numbers.expire_grace * 1000)
            self._bell.expire(ledger, row, why)
            return ledger.expire_held(row, now=now, due=due, why=why)
        dead = dead_by_limit(why)
        if not ledger.expire(row, now=now, purge=now + kept_for(dead), why=why, dead=dead):
            return False
        self._bell.expire(ledger, row, why)
        return self._called_off(ledger, row) and self._said_end(ledger, row.id)

    def pause(self, ledger: Ledger, row: TaskRecord, was: int, *, on: bool) -> bool:
        """Turn the pause flag and tell whom it concerns: who runs the task, else the consumer."""
        now = self._steady.now_ms()
        if not ledger.pause(row.id, was, now=now, flag=on):
            return False
        if on and row.state == State.OFFERED.value and row.inc is not None:
            self.withdraw(ledger, row, row.inc)
        after = ledger.task(row.id)
        if after is not None and after.is_held:
            self._bell.pause(ledger, after)
        elif after is not None and bool(row.pause) is not on:
            status = PAUSED if on else RESUMED
            head = {"type": "system", "status": status, "state": shown(after), "ts": now}
            ledger.say(after, after.epoch, head)
        return True

    def cancel(self, ledger: Ledger, row: TaskRecord, why: str | None, *, terminated: bool) -> None:
        """Cancel at once what nobody holds; else set the flag, and repeat the ring when it is set."""
        now = self._steady.now_ms()
        why = "terminated" if terminated else why
        grace = self._numbers.terminate_grace if terminated else self._numbers.cancel_grace
        due = now + int(grace * 1000)
        self._bell.cancel(ledger, row, why)
        if ledger.cancel_unheld(row.id, now=now, purge=now + RETENTION_MS, why=why):
            self._called_off(ledger, row)
            self._said_end(ledger, row.id)
        elif ledger.cancel_held(row.id, now=now, due=due, why=why):
            ledger.say(row, row.epoch, {"type": "cancel_requested", "reason": why, "ts": now})
            self._end_children(ledger, row.id)
        elif terminated:
            ledger.hasten(row.id, now=now, due=due, why=why)

    def _offered(self, ledger: Ledger, row: TaskRecord, by: str, to: Sequence[Candidate]) -> bool:
        now = self._steady.now_ms()
        until = now + int(self._numbers.offer_timeout * 1000)
        if not ledger.offer(row, by, now=now, until=until, due=due_offered(row, until)):
            return False
        self._say_restarted(ledger, row, now)
        start = ledger.start(row.id)
        for one in to:
            self._bell.offer(ledger, one, row, start if len(start) <= self._numbers.inline_input else None)
        return True

    def _given(self, ledger: Ledger, row: TaskRecord, to: Candidate, said: Publication, now: int) -> bool:
        """Give a waiting task to an instance that hears of it by its link."""
        due = due_running(row, now)
        if not ledger.grant(row, to.incarnation, now=now, due=due):
            return False
        self._say_restarted(ledger, row, now)
        ledger.outbox.append(said)
        self._granted.gave((row.id, row.epoch + 1), to)
        return ledger.counted("offers_granted")

    def _say_restarted(self, ledger: Ledger, row: TaskRecord, now: int) -> None:
        if row.leased_at is not None:
            ledger.say(row, row.epoch + 1, {"type": "system", "status": "restarted", "ts": now})

    def _called_off(self, ledger: Ledger, row: TaskRecord, but: str | None = None) -> bool:
        """End the offers of a task that was offered to everybody, and tell all but who has it now."""
        if row.inc == EVERYBODY:
            for each in ledger.offered_to(row):
                if each != but:
                    self._bell.withdraw(ledger, each, row)
            ledger.drop_offers(row.id)
        return True

    def _retry(self, ledger: Ledger, row: TaskRecord, by: str, outcome: Outcome, pause: int) -> bool:
        """Put a task whose run failed back, and tell why and when it goes on."""
        now = self._steady.now_ms()
        ready = now + pause
        due = due_queued(row.changed(ready_at=ready))
        if not ledger.retry(row, by, now=now, ready=ready, due=due, said=outcome.digest, n=outcome.last_n):
            return False
        head = {"type": "system", "status": QUEUED, "message": told(row, outcome, pause), "ts": now}
        error = None if outcome.error is None else fitting(outcome.error, MAX_ERROR)
        ledger.say(row, row.epoch, head | {"error": error, "errorCode": outcome.error_code or USUAL})
        return ledger.counted("retries")

    def _said_end(self, ledger: Ledger, task_id: str) -> bool:
        """Store the terminal event of a task that has just ended, as its row is now."""
        row = ledger.task(task_id)
        if row is None or row.ended is None:
            raise RuntimeError(f"task {task_id} did not end")
        head = {"type": "terminal", "state": shown(row), "lastN": row.last_n, "ts": row.ended}
        why = "completionReason" if row.reason == DURATION_EXPIRED else "reason"
        told: dict[str, Any] = {"error": row.error, "errorCode": row.error_code, why: row.reason}
        if row.cancel_at is not None or row.pause_seq or row.question is not None:
            # These words have no number of the run: whoever did not hear one asks for it.
            told["hubSeqs"] = ledger.words(row) or None
        ledger.say(row, row.epoch, head | {key: value for key, value in told.items() if value is not None}, ends=True)
        self._end_children(ledger, task_id)
        ledger.counted("dead_letters", happened=row.dead_reason is not None)
        return True

    def _end_children(self, ledger: Ledger, task_id: str) -> None:
        """Cancel what a task asked for: with its end nobody waits for that any more."""
        for child in ledger.children(task_id):
            self.cancel(ledger, child, PARENT_ENDED, terminated=False)


def _recorded(row: TaskRecord, outcome: Outcome) -> dict[str, Any]:
    """Return state, reason and error of an outcome; who was told to stop ends by that, unless he was faster."""
    to = _TO[outcome.state]
    if to is not State.COMPLETED:
        to = _STOPPED.get(row.state, to)
    values: dict[str, Any] = {"to": to.value, "why": outcome.reason, "fault": None, "fault_code": None}
    if to is State.CANCELLED and row.state == State.CANCELLING.value:
        values["why"] = FORCED if outcome.reason == FORCED else row.reason or outcome.reason
    elif to is State.FAILED:
        error = None if outcome.error is None else fitting(outcome.error, MAX_ERROR)
        values |= {"fault": error, "fault_code": outcome.error_code or "handler_error"}
    elif to is State.EXPIRED:
        limit = row.reason if row.state == State.EXPIRING.value else outcome.reason
        values |= {"why": limit or DURATION_EXPIRED, **fault_of(limit or DURATION_EXPIRED)}
    return values
