"""Mutants: each breaks one rule of what is shipped, for the length of a block; the simulation must notice."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec
from sqlalchemy import insert

from blocks_worker.client.ordering import SessionOrder
from blocks_worker.hub import file_service, reports, steps, submits, turns
from blocks_worker.hub.granted import Granted
from blocks_worker.hub.instance_service import InstanceService
from blocks_worker.hub.questions import Questions
from blocks_worker.hub.store import files, life, schema
from blocks_worker.hub.store import statements as sql
from blocks_worker.hub.store.ledger import Ledger
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.store.task_turns import TaskTurns
from blocks_worker.hub.submits import Submits
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.turns import Turns
from blocks_worker.protocol.lifecycle import State
from blocks_worker.worker.pipes import Pipes
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.worker.run import Run

Patch = tuple[Any, str, Any]


@contextmanager
def planted(*patches: Patch) -> Iterator[None]:
    """Have these in place of what is shipped."""
    with ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(patch.object(owner, name, value))
        yield


def _without(text: str, *parts: str) -> str:
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}: the mutant has to follow the statement"
        text = text.replace(part, "")
    return text


def _outcome_unguarded() -> list[Patch]:
    """X1: an outcome is taken from anybody who ever held the task, ended or not."""
    bare = sql.OUTCOME.split(" WHERE ")[0] + " WHERE task.id = :key"
    return [(reports, "_speaks", lambda _row, _holder, _item: True), (sql, "OUTCOME", bare)]


def _epoch_ignored() -> list[Patch]:
    """X2: the compare-and-set looks at the state only."""
    outcome, append = (_without(text, " AND task.epoch = :e") for text in (sql.OUTCOME, sql.APPEND))
    by = " AND task.inc = :by"
    return [
        (reports, "_speaks", lambda row, _holder, _item: row.is_held),
        (sql, "OUTCOME", _without(outcome, by)),
        (sql, "APPEND", _without(append, by)),
    ]


def _lost_race_leased() -> list[Patch]:
    """Whoever claims a task in its epoch is given a lease, though another one has it."""
    return [(reports, "_is_his", lambda _ledger, row, _holder, epoch: row.epoch == epoch)]


def _no_key() -> list[Patch]:
    """X3: the idempotency key is not looked at."""
    shipped = Submits.submit

    def submit(self: Submits, ledger: Ledger, consumer: Any, request: Any, **more: Any) -> Any:
        return shipped(self, ledger, consumer, msgspec.structs.replace(request, idempotency_key=None), **more)

    return [(Submits, "submit", submit)]


def _said_before_commit() -> list[Patch]:
    """X4: what is written is said before it is durable."""
    shipped = Store._run_all

    class Early:
        """Say what was written, then let the transaction be committed."""

        def __init__(self, store: Store, ledger: Ledger) -> None:
            self._store, self._ledger = store, ledger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

        def commit(self) -> None:
            """Say, then commit."""
            said = list(self._ledger.outbox)
            self._store._hand_over(said)
            self._ledger.commit()

    def run_all(self: Store, ledger: Ledger, sets: Any) -> Any:
        return shipped(self, Early(self, ledger), sets)  # type: ignore[arg-type]  # the ledger, but for one verb

    return [(Store, "_run_all", run_all)]


def _no_poll() -> list[Patch]:
    """X5: a session never asks the hub."""
    return [(SessionOrder, "wants_ledger", lambda _self, _now: False)]


def _no_repair() -> list[Patch]:
    """X5: a session asks after silence, but never about a hole."""
    shipped = SessionOrder.wants_ledger

    def wants(self: SessionOrder, now: float) -> bool:
        return shipped(self, now) and not self._has_hole and self._terminal is None

    return [(SessionOrder, "wants_ledger", wants)]


def _no_lease_sweep() -> list[Patch]:
    """X6: nobody looks for silent instances."""
    return [(InstanceService, "check", lambda _self, _ledger, _row: None)]


def _no_offer_timeout() -> list[Patch]:
    """X6: an offer stands for ever."""
    shipped = Sweeper._end_time

    def end_time(self: Sweeper, ledger: Ledger, row: TaskRecord, now: int) -> None:
        if row.state != State.OFFERED.value or row.deadline is not None or row.queue_until is not None:
            shipped(self, ledger, row, now)
        else:
            ledger.put_off(row.id, now + 1000)

    return [(Sweeper, "_end_time", end_time)]


def _once_put_back() -> list[Patch]:
    """X9: what may be run once goes back to the queue like the rest."""
    guard = " AND task.delivery = 'at_least_once'"
    return [(sql, name, _without(getattr(sql, name), guard)) for name in ("LOSE", "TAKE_BACK", "RELEASE")]


def _pause_unnumbered() -> list[Patch]:
    """A pause is turned by whoever asks, however late: one that comes again after the resume undoes it."""
    return [(sql, "PAUSE", _without(sql.PAUSE, " AND task.pause_seq = :was"))]


def _paused_offered() -> list[Patch]:
    """The pause flag keeps nothing from being offered."""
    guard = " AND task.pause = 0"
    return [(sql, name, _without(getattr(sql, name), guard)) for name in ("OFFER", "WAITING")]


def _retry_at_once() -> list[Patch]:
    """The pause before the next run is not waited for."""
    guard = " AND task.ready_at IS NULL"
    return [(sql, name, _without(getattr(sql, name), guard)) for name in ("OFFER", "WAITING")]


def _retry_never_ready() -> list[Patch]:
    """Nobody looks whether the pause before the next run is over."""
    return [(Turns, "ready", lambda _self, _ledger, _row: False)]


def _delay_ignored() -> list[Patch]:
    """A task that is to begin later is offered at once."""
    return [(submits, "ready_at", lambda _request, _now, _deadline: None)]


def _priority_ignored() -> list[Patch]:
    """Whoever came first is offered first."""
    return [(sql, "WAITING", sql.WAITING.replace("ORDER BY task.rank", "ORDER BY task.created"))]


def _limit_ignored() -> list[Patch]:
    """However many tasks an agent has, it may have more."""
    return [(sql, "COUNT_TAKEN", "SELECT 0 WHERE :a IS NOT NULL")]


def _purged_forgotten() -> list[Patch]:
    """Nobody looks whether a task that is asked for was purged."""
    return [(submits, "check_not_purged", lambda _ledger, _consumer, _request, _now: None)]


def _redriven_each_time() -> list[Patch]:
    """Each call sends a task again, whatever was answered before."""
    shipped = submits.resubmission
    return [
        (submits, "sent_again", lambda _ledger, _row, _wish: None),
        (submits, "resubmission", lambda ledger, row, task_id, _key: shipped(ledger, row, task_id, None)),
    ]


def _never_given_up() -> list[Patch]:
    """What waited too long is no dead letter."""
    return [(turns, "dead_by_limit", lambda _why: None)]


def _return_ends_pipe() -> list[Patch]:
    """The return of its handler ends a pipe like a request."""

    def returned(self: Pipes, run: Run) -> None:
        self._end(run, Ending("completed"))

    return [(Pipes, "returned", returned)]


def _pipe_put_back() -> list[Patch]:
    """A pipe goes back to the queue like a request."""
    guard = " AND task.kind = 'request'"
    return [(sql, name, _without(getattr(sql, name), guard)) for name in ("LOSE", "TAKE_BACK", "RELEASE")]


def _step_overwritten() -> list[Patch]:
    """X11: whoever stores a step last stays."""
    assert sql.STEP.endswith("DO NOTHING")
    return [(sql, "STEP", sql.STEP.removesuffix("DO NOTHING") + "(task, name) DO UPDATE SET value = excluded.value")]


def _steps_not_given() -> list[Patch]:
    """X11: the next run of a task is not told what was stored."""
    return [(steps, "for_claim", lambda _ledger, _row: msgspec.UNSET)]


def _given_without_steps() -> list[Patch]:
    """An offer that brings its lease leaves out what was stored."""
    return [(turns, "has_any", lambda _ledger, _row: False)]


def _given_without_answers() -> list[Patch]:
    """An offer that brings its lease leaves out what was answered."""
    return [(turns, "has_answers", lambda _ledger, _row: False)]


def _steps_not_copied() -> list[Patch]:
    """A task that is sent again begins from nothing."""
    return [(Ledger, "copy_steps", lambda _self, _task_id, _new_id: None)]


def _no_reconcile() -> list[Patch]:
    """Nobody compares the list of a worker with the ledger: a task whose lease never arrived stays held."""
    return [(InstanceService, "_reconcile", lambda _self, ledger, row, _pulse, _beat: ledger.tasks_of(row.incarnation))]


def _answer_not_stored() -> list[Patch]:
    """X11: the answer reaches the run that waits, and nobody else."""
    shipped = TaskTurns._answered

    def answered(self: TaskTurns, row: TaskRecord, ask: str, value: bytes | None, now: int) -> bool:
        return value is not None or shipped(self, row, ask, value, now)

    return [(TaskTurns, "_answered", answered)]


def _asks_again() -> list[Patch]:
    """X11: a run that begins is not told what was answered before it."""
    return [(Questions, "flags", lambda _self, _ledger, _row: [])]


def _granted_forgotten() -> list[Patch]:
    """X7: what was given with its offer and never arrived is taken back by nobody."""
    return [(Granted, "lost", lambda _self: []), *_no_reconcile()]


def _file_of_a_stranger() -> list[Patch]:
    """Whoever once ran a task may add files to it."""
    return [(file_service, "_run_of", lambda ledger, _holder, request: ledger.task(request.task_id))]


def _file_not_kept() -> list[Patch]:
    """A file of a run is nobody's, and goes when its time is over."""

    def stage(connection: Any, record: files.FileRecord) -> None:
        connection.execute(insert(schema.file).values(**record._asdict()))

    return [(files, "stage", stage)]


def _older_hub_stays() -> list[Patch]:
    """A hub never looks whether another one has begun on its ledger."""
    return [(life.Life, "check", lambda _self, _ledger: None)]


def _events_dropped() -> list[Patch]:
    """X12: of the events of one report only the first is stored."""
    shipped = Ledger._store

    def store(self: Ledger, row: TaskRecord, epoch: int, n: int | None, body: bytes, **more: Any) -> None:
        if n is None or n == 1 or n % 3:
            shipped(self, row, epoch, n, body, **more)

    return [(Ledger, "_store", store)]


#: Mutant by name: how it is planted, which invariants notice it, the first seed that is tried, how many at most. Where
#: the first to notice comes late, those are left out that were seen to notice nothing.
MUTANTS: dict[str, tuple[Callable[[], list[Patch]], set[str], int, int]] = {
    "outcome without compare-and-set": (_outcome_unguarded, {"I2", "I3", "I5"}, 0, 20),
    # Two in five hundred histories notice it: from shortly before the first.
    "epoch ignored": (_epoch_ignored, {"I5", "I14"}, 94, 60),
    "lost race is leased": (_lost_race_leased, {"I6"}, 0, 60),
    "no idempotency key": (_no_key, {"I8"}, 0, 20),
    "said before the commit": (_said_before_commit, {"I3", "I4"}, 6, 100),
    "no session poll": (_no_poll, {"I3", "I4"}, 0, 20),
    "no gap repair": (_no_repair, {"I4"}, 0, 20),
    "no lease sweep": (_no_lease_sweep, {"I1"}, 0, 60),
    "no offer timeout": (_no_offer_timeout, {"I1"}, 56, 200),
    # From seed 6 on: the first that is noticed is one that can be made short.
    "at most once put back": (_once_put_back, {"I11"}, 6, 60),
    "granted and never taken back": (_granted_forgotten, {"I1"}, 0, 60),
    "events dropped inside a batch": (_events_dropped, {"I4"}, 0, 20),
    "no reconcile by list": (_no_reconcile, {"I1"}, 0, 60),
    "pause without its number": (_pause_unnumbered, {"I1"}, 0, 200),
    "paused and offered": (_paused_offered, {"I12"}, 0, 60),
    "retried at once": (_retry_at_once, {"I12", "I14"}, 0, 60),
    "priority ignored": (_priority_ignored, {"I16"}, 0, 60),
    "limit ignored": (_limit_ignored, {"I12"}, 0, 60),
    "delay ignored": (_delay_ignored, {"I12"}, 0, 60),
    "retry never ready": (_retry_never_ready, {"I1"}, 0, 60),
    "purged and made anew": (_purged_forgotten, {"I8"}, 0, 60),
    "redriven each time": (_redriven_each_time, {"I8"}, 0, 60),
    "never given up": (_never_given_up, {"I15"}, 3, 60),
    "return ends a pipe": (_return_ends_pipe, {"I13"}, 0, 60),
    "answer not stored": (_answer_not_stored, {"I10"}, 0, 60),
    "re-run asks again": (_asks_again, {"I10"}, 0, 60),
    "step overwritten": (_step_overwritten, {"I10"}, 0, 60),
    "stored steps not given": (_steps_not_given, {"I10"}, 0, 60),
    "given without its steps": (_given_without_steps, {"I10"}, 20, 60),
    "given without its answers": (_given_without_answers, {"I10"}, 9, 60),
    # Few tasks are sent again behind a step: from the first that is.
    "stored steps not copied": (_steps_not_copied, {"I10"}, 8, 60),
    "older hub stays": (_older_hub_stays, {"I4"}, 0, 60),
    "file of a stranger": (_file_of_a_stranger, {"I5"}, 12, 60),
    "file not kept": (_file_not_kept, {"I17"}, 0, 20),
    "pipe put back": (_pipe_put_back, {"I13"}, 0, 60),
}
