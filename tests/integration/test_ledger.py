"""The statements against the table of turns: every state before every turn, on a real database."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import World

from blocks_worker.hub.store.ledger import Ledger
from blocks_worker.hub.store.records import TaskRecord
from blocks_worker.hub.store.transaction import Publication
from blocks_worker.protocol.leases import ReportEvent
from blocks_worker.protocol.lifecycle import EVERYBODY, TERMINAL, RefusedTurnError, State, TaskFacts, TaskTurn, advance

if TYPE_CHECKING:
    from collections.abc import Iterator


Statement = Callable[[Ledger, TaskRecord], bool]

NOW, PURGE, MAX_LOST = 1_000, 9_000, 3

#: Who the row says holds or lost the task, beside who acts ("me").
HOLDERS = (None, "me", "other", EVERYBODY)


def record(key: str, facts: TaskFacts, last_n: int = 2) -> TaskRecord:
    """Return a row with these facts."""
    ended = 1 if facts.state in TERMINAL else None
    return TaskRecord(
        id=key, owner="ann", agent="echo", billing_mode="free", session="session.ann", idem=None, body_digest="b",
        parent=None, state=facts.state.value, epoch=facts.epoch, attempt=facts.attempt, lost=facts.lost,
        delivery="at_least_once" if facts.again else "at_most_once", inc=facts.incarnation,
        lost_inc=facts.lost_incarnation, last_n=last_n, digest="d", outcome_digest=None, max_runtime=60.0,
        deadline=None, queue_until=None, offer_until=None, leased_at=None, cancel_at=None, force_at=None, error=None,
        error_code=None, reason=None, created=1, updated=1, ended=ended, due_at=None, purge_at=ended,
        kind="pipe" if facts.pipe else "request", pause=int(facts.paused),
        retries=facts.retries, ready_at=NOW if facts.waits else None,
    )  # fmt: skip


def insert(ledger: Ledger, row: TaskRecord) -> None:
    """Write the row down; what is offered to everybody is offered to "me" and another."""
    ledger.insert_task(row, b"{}")
    if row.inc == EVERYBODY:
        ledger.offer_with_others(row.id, ["me", "other"])


def do_turn(ledger: Ledger, row: TaskRecord, turn: TaskTurn) -> bool:
    """Run the statement or statements of one turn, as "me"; the hub itself acts on whoever holds the task."""
    return any(statement(ledger, row) for statement in STATEMENTS[turn])


def _outcome(turn: TaskTurn) -> Statement:
    return lambda ledger, row: ledger.outcome(row, "me", _told(row, turn))


def _force(by: str | None) -> Statement:
    return lambda ledger, row: ledger.force(row, by or str(row.inc), **END)


END = {"now": NOW, "purge": PURGE}
TURN: Any = {"now": NOW, "due": None}

#: The statements of each turn, tried in this order.
STATEMENTS: dict[TaskTurn, list[Statement]] = {
    TaskTurn.OFFER: [lambda ledger, row: ledger.offer(row, "me", until=NOW + 5, **TURN)],
    TaskTurn.GRANT: [lambda ledger, row: ledger.grant(row, "me", **TURN)],
    TaskTurn.CLAIM: [lambda ledger, row: ledger.claim(row, "me", **TURN)],
    TaskTurn.WITHDRAW: [lambda ledger, row: ledger.withdraw(row, str(row.inc), **TURN)],
    TaskTurn.CANCEL: [
        lambda ledger, row: ledger.cancel_unheld(row.id, **END, why=None),
        lambda ledger, row: ledger.cancel_held(row.id, now=NOW, due=NOW + 30, why=None),
    ],
    TaskTurn.EXPIRE: [
        lambda ledger, row: ledger.expire(row, **END, why="deadline", dead=None),
        lambda ledger, row: ledger.expire_held(row, now=NOW, due=NOW + 30, why="deadline"),
    ],
    TaskTurn.COMPLETE: [_outcome(TaskTurn.COMPLETE)],
    TaskTurn.FAIL: [_outcome(TaskTurn.FAIL)],
    TaskTurn.CANCELED: [_outcome(TaskTurn.CANCELED)],
    # The hub's door refuses it for a request.
    TaskTurn.RUN_OUT: [lambda ledger, row: row.is_pipe and _outcome(TaskTurn.RUN_OUT)(ledger, row)],
    TaskTurn.RELEASE: [
        lambda ledger, row: ledger.release(row, "me", **TURN),
        lambda ledger, row: ledger.release_for_good(row, "me", **END),
        _force("me"),
    ],
    TaskTurn.TAKE_BACK: [
        lambda ledger, row: ledger.take_back(row, str(row.inc), **TURN),
        lambda ledger, row: ledger.take_for_good(row, str(row.inc), **END, dead="lease_lost"),
        _force(None),
    ],
    TaskTurn.LOSE: [
        lambda ledger, row: ledger.lose(row, str(row.inc), max_lost=MAX_LOST, **TURN),
        lambda ledger, row: ledger.lose_for_good(row, str(row.inc), **END, max_lost=MAX_LOST, dead="poison"),
        _force(None),
    ],
    TaskTurn.FORCE: [_force(None)],
    TaskTurn.PAUSE: [lambda ledger, row: _pause(ledger, row, flag=True)],
    TaskTurn.RESUME: [lambda ledger, row: _pause(ledger, row, flag=False)],
    TaskTurn.RETRY: [lambda ledger, row: ledger.retry(row, "me", ready=NOW + 5, said="s", n=row.last_n, **TURN)],
    TaskTurn.READY: [lambda ledger, row: ledger.ready(row, **TURN)],
}

_OUTCOMES = {
    TaskTurn.COMPLETE: "COMPLETED",
    TaskTurn.FAIL: "FAILED",
    TaskTurn.CANCELED: "CANCELLED",
    TaskTurn.RUN_OUT: "EXPIRED",
}
_STOPPED = {"CANCELLING": "CANCELLED", "EXPIRING": "EXPIRED"}


def _pause(ledger: Ledger, row: TaskRecord, *, flag: bool) -> bool:
    """Turn the flag as the hub does: what is offered is taken back with it."""
    if not ledger.pause(row.id, row.pause_seq, now=NOW, flag=flag):
        return False
    if flag and row.state == "OFFERED":
        assert ledger.withdraw(row, str(row.inc), **TURN)
    return True


def _told(row: TaskRecord, turn: TaskTurn) -> dict[str, object]:
    to = _OUTCOMES[turn]
    if turn is not TaskTurn.COMPLETE:
        to = _STOPPED.get(row.state, to)
    told = {"why": None, "fault": None, "fault_code": None, "dead": None}
    return {"to": to, "now": NOW, "purge": PURGE, "n": row.last_n, "said": "s", **told}


def facts_of(row: TaskRecord) -> TaskFacts:
    """Return what the table knows of a row."""
    return TaskFacts(
        state=State(row.state),
        epoch=row.epoch,
        attempt=row.attempt,
        lost=row.lost,
        incarnation=row.inc,
        lost_incarnation=row.lost_inc,
        again=row.may_run_again,
        max_lost=MAX_LOST,
        pipe=row.is_pipe,
        paused=bool(row.pause),
        retries=row.retries,
        waits=row.ready_at is not None,
    )


def all_facts() -> Iterator[TaskFacts]:
    """Yield every row that can be, by what decides."""
    kinds = ((True, False), (False, False), (False, True))
    for state, (again, pipe), paused, lost, who in itertools.product(State, kinds, (False, True), (0, 1, 2), HOLDERS):
        # One that lost a lease has a run left that may fail; another has none.
        fixed: Any = {"again": again, "pipe": pipe, "paused": paused, "max_lost": MAX_LOST, "retries": int(lost == 1)}
        has_holder = state in {State.OFFERED, State.RUNNING, State.CANCELLING, State.EXPIRING}
        if (paused and state is State.OFFERED) or (state is State.EXPIRING and not pipe):
            continue
        if who == EVERYBODY and state is not State.OFFERED:
            continue
        if has_holder and who is not None:
            yield TaskFacts(state, 4, 2, lost, incarnation=who, **fixed)
        elif state is State.QUEUED and (who is None or not pipe):
            yield TaskFacts(state, 4, 2, lost, lost_incarnation=who, **fixed)
            if who is None and again:
                yield TaskFacts(state, 4, 2, lost, waits=True, **fixed)
        elif not has_holder and who is None:
            yield TaskFacts(state, 4, 2, lost, **fixed)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Be a ledger without agents."""
    with World() as world:
        yield world


@pytest.mark.parametrize("turn", TaskTurn)
def test_statements_are_the_table(world: World, turn: TaskTurn) -> None:
    """Each statement changes exactly the rows that `advance` lets turn, and to exactly what it says."""
    for number, facts in enumerate(all_facts()):
        row = record(f"{turn.value}{number}", facts)
        try:
            expected = advance(facts, turn, by="me")
        except RefusedTurnError:
            expected = None

        def turned(ledger: Ledger, row: TaskRecord = row) -> tuple[bool, TaskRecord | None]:
            insert(ledger, row)
            return do_turn(ledger, row, turn), ledger.task(row.id)

        changed, after = world.do(turned)
        assert after is not None
        assert changed is (expected is not None), (facts, turn)
        assert facts_of(after) == (expected or facts), (facts, turn)
        assert (after.ended is not None) is (after.purge_at is not None)


@pytest.mark.parametrize("turn", sorted(set(TaskTurn) - {TaskTurn.CANCEL, TaskTurn.PAUSE, TaskTurn.RESUME}))
def test_another_epoch_changes_nothing(world: World, turn: TaskTurn) -> None:
    """Every statement that is somebody's names the epoch it means: an older or newer one is not touched."""
    for number, facts in enumerate(all_facts()):
        row = record(f"e-{turn.value}{number}", facts)
        world.do(partial(insert, row=row))
        for epoch in (3, 5):
            assert not world.do(partial(do_turn, row=row._replace(epoch=epoch), turn=turn))
        assert world.row(row.id) == row


def test_only_who_was_offered_it_claims(world: World) -> None:
    """A task that is offered to everybody is claimed by who was asked and has not refused, and by one of them."""
    row = record("all", TaskFacts(State.OFFERED, 1, incarnation=EVERYBODY))
    world.do(partial(insert, row=row))

    assert world.do(lambda ledger: ledger.decline("all", "other"))
    assert [world.do(lambda ledger, by=by: ledger.claim(row, by, **TURN)) for by in ("other", "third")] == [False] * 2
    assert world.do(lambda ledger: ledger.claim(row, "me", **TURN))
    assert not world.do(lambda ledger: ledger.claim(row, "me", **TURN))
    assert world.row("all").inc == "me"


def test_events_follow_the_last_one(world: World) -> None:
    """[R3] Events and outcome name the last number they follow: another one changes nothing; an offer starts anew."""
    row = record("n", TaskFacts(State.RUNNING, 1, 1, incarnation="me"), last_n=2)
    world.do(partial(Ledger.insert_task, record=row, start=b"{}"))
    event = ReportEvent(n=2, body=msgspec.Raw(b'{"type":"progress"}'))
    stale = row._replace(last_n=1)

    assert not world.do(lambda ledger: ledger.append(stale, "me", [event], NOW))
    assert not world.do(lambda ledger: ledger.outcome(row, "me", _told(stale, TaskTurn.COMPLETE)))
    assert world.row("n") == row
    assert world.do(lambda ledger: ledger.lose(row, "me", max_lost=MAX_LOST, **TURN))
    assert world.do(lambda ledger: ledger.offer(world_row(ledger), "me", until=NOW + 5, **TURN))
    assert world.row("n").last_n == 0


def world_row(ledger: Ledger) -> TaskRecord:
    """Return the row of the test above inside a transaction."""
    row = ledger.task("n")
    assert row is not None
    return row


def test_an_offer_after_the_deadline_is_none(world: World) -> None:
    """A task whose time is over is not offered."""
    row = record("late", TaskFacts(State.QUEUED))._replace(deadline=NOW)

    def offered(ledger: Ledger) -> bool:
        ledger.insert_task(row, b"{}")
        return ledger.offer(row, "me", now=NOW, until=NOW + 5, due=None)

    assert not world.do(offered)


def test_events_are_said_on_both_channels(world: World) -> None:
    """What is stored is found again after a number, as it was said: on the session's channel and the task's."""
    row = record("pub", TaskFacts(State.RUNNING, 1, 1, incarnation="me"))
    before = len(world.said)

    def work(ledger: Ledger) -> None:
        ledger.insert_task(row, b"{}")
        ledger.say(row, 1, {"type": "system", "status": "restarted"})
        ledger.say(row, 1, {"type": "terminal", "state": "completed"}, ends=True)

    world.do(work)
    said = world.said[before:]
    found = world.store.read(lambda ledger: ledger.events_after(said[0].seq - 1 if said[0].seq else 0, 10))

    assert [one.channel for one in said] == ["session.ann", "u.ann.pub"] * 2
    assert [one.ends_channel for one in said] == [False, False, False, True]
    assert found == said
    assert isinstance(said[0], Publication)


def test_a_savepoint_unsays(world: World) -> None:
    """What is undone is not said."""
    row = record("undone", TaskFacts(State.RUNNING, 1, 1, incarnation="me"))

    def work(ledger: Ledger) -> int:
        with contextlib.suppress(KeyError), ledger.savepoint():
            ledger.insert_task(row, b"{}")
            ledger.say(row, 1, {"type": "system"})
            raise KeyError
        return len(ledger.outbox)

    assert world.do(work) == 0
    assert world.store.read(lambda ledger: ledger.task("undone")) is None


def test_the_published_number_is_remembered(world: World) -> None:
    """The number up to which everything was said is kept, and starts at nothing."""
    before = world.store.read(lambda ledger: ledger.published())
    world.do(lambda ledger: ledger.save_published(7))
    world.do(lambda ledger: ledger.save_published(8))

    assert (before, world.store.read(lambda ledger: ledger.published())) == (0, 8)


def test_a_pause_is_turned_once_for_each_number(world: World) -> None:
    """[R-57] A repeat of a pause after the resume changes nothing, nor does one of a task that has ended. [J13]"""
    row = record("p", TaskFacts(State.QUEUED))
    world.do(partial(Ledger.insert_task, record=row, start=b"{}"))

    assert world.do(lambda ledger: ledger.pause("p", 0, now=NOW, flag=True))
    assert not world.do(lambda ledger: ledger.pause("p", 0, now=NOW, flag=False))
    assert world.do(lambda ledger: ledger.pause("p", 1, now=NOW, flag=False))
    assert not world.do(lambda ledger: ledger.pause("p", 0, now=NOW, flag=True))
    assert (world.row("p").pause, world.row("p").pause_seq) == (0, 2)

    assert world.do(lambda ledger: ledger.cancel_unheld("p", **END, why=None))
    assert not world.do(lambda ledger: ledger.pause("p", 2, now=NOW, flag=True))
