"""SessionOrder: whatever the network does, a session shows what the ledger holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.ordering import GAP_REPAIR_TIMEOUT, GAP_TIMEOUT, SESSION_POLL, SessionOrder
from blocks_worker.protocol.tasks import TaskRow

if TYPE_CHECKING:
    from collections.abc import Sequence

TASK = "task-1"


def event(kind: str, **fields: Any) -> TaskEvent:
    """Return an event of the task."""
    return TaskEvent.of({"type": kind, "taskId": TASK, "epoch": 1, **fields})


def progress(n: int, seq: int, epoch: int = 1) -> TaskEvent:
    """Return a worker's event."""
    return event("progress", n=n, seq=seq, epoch=epoch)


def terminal(last_n: int, seq: int, epoch: int = 1, state: str = "completed", **fields: Any) -> TaskEvent:
    """Return a terminal event."""
    return event("terminal", lastN=last_n, seq=seq, epoch=epoch, state=state, **fields)


def row(state: str = "running", *, epoch: int = 1, last_n: int = 0) -> TaskRow:
    """Return the task's row."""
    return TaskRow(
        task_id=TASK,
        agent_name="echo",
        owner="local",
        state=state,
        created_time=1,
        updated_time=1,
        attempt=1,
        epoch=epoch,
        last_n=last_n,
    )


def shown(order: SessionOrder, events: Sequence[TaskEvent], now: float = 0.0) -> list[tuple[int, int | None]]:
    """Feed events and return epoch and number of what came out."""
    return [(out.epoch, out.n) for fed in events for out in order.feed(fed, now)]


@dataclass
class Ledger:
    """What the hub stored, in order."""

    events: list[TaskEvent]
    page: int

    def answer(self, order: SessionOrder, now: float) -> list[TaskEvent]:
        """Feed the session one page, as a poll does."""
        place = order.cursor
        after = [one for one in self.events if (one.seq or 0) > place]
        order.asked(now)
        last = self.events[-1]
        return order.feed_ledger(
            row(last.state or "completed", epoch=last.epoch, last_n=last.last_n or 0),
            after[: self.page],
            now,
            after=place,
            more=len(after) > self.page,
        )


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Draw the life of a task: runs that ended without an outcome, the hub's own events, and its end."""
    seq, epoch, stored = 0, 0, []
    runs = draw(st.integers(1, 3))
    for number in range(1, runs + 1):
        epoch += draw(st.integers(1, 2))
        if number > 1:
            seq += 1
            stored.append(event("system", status="restarted", seq=seq, epoch=epoch))
        last_n = draw(st.integers(0, 5))
        cancelled = draw(st.integers(0, 6)) if number == runs else None
        for n in range(1, last_n + 1):
            seq += draw(st.integers(1, 3))
            stored.append(progress(n, seq, epoch))
            if n == cancelled:
                seq += 1
                stored.append(event("cancel_requested", seq=seq, epoch=epoch))
    words = [one.seq for one in stored if one.epoch == epoch and one.n is None]
    stored.append(terminal(last_n, seq + 1, epoch, **({"hubSeqs": words} if words else {})))
    return Ledger(stored, draw(st.integers(1, 7)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_disorder(data: st.DataObject) -> None:
    """[P4] [P5] Shuffled, lost, repeated events come out once, in order, with one terminal event at the end. [B16]"""
    ledger = data.draw(ledgers())
    heard = data.draw(st.lists(st.sampled_from(ledger.events), max_size=30))
    order = SessionOrder(TASK, 0.0)
    out, now = [], 0.0
    for fed in heard:
        now += 0.01
        out += order.feed(fed, now)
    for _ in range(200):
        due = order.due()
        if due is None:
            break
        now = max(now, due)
        out += order.tick(now)
        if order.wants_ledger(now):
            out += ledger.answer(order, now)

    places = [(one.epoch, one.n) for one in out if one.n is not None]
    last = ledger.events[-1]

    assert order.finished
    assert [one.type for one in out].count("terminal") == 1
    assert out[-1].type == "terminal"
    assert not out[-1].gap
    assert places == sorted(set(places))
    assert [n for epoch, n in places if epoch == last.epoch] == list(range(1, (last.last_n or 0) + 1))
    cancels = [[one.type for one in told].count("cancel_requested") for told in (out, ledger.events)]
    assert cancels[0] == cancels[1]
    restarts = [one.epoch for one in out if one.status == "restarted"]
    assert restarts == sorted(set(restarts))
    for one, after in pairwise(out):
        if one.n is not None and after.n is not None and after.epoch > one.epoch:
            raise AssertionError("a newer run was not announced")


@settings(max_examples=100, deadline=None)
@given(ledgers())
def test_in_order_without_loss(ledger: Ledger) -> None:
    """[P5] What comes as it was stored is shown as it was stored, at once."""
    order = SessionOrder(TASK, 0.0)

    out = [one for fed in ledger.events for one in order.feed(fed, 0.0)]

    assert out == ledger.events


def test_hole_asks_the_hub() -> None:
    """[P5] Behind a hole nothing is shown; after the gap timeout the hub is asked for what follows."""
    order = SessionOrder(TASK, 0.0)

    assert shown(order, [progress(1, 10), progress(3, 12)], 1.0) == [(1, 1)]

    assert order.due() == 1.0 + GAP_TIMEOUT
    assert not order.wants_ledger(1.0)
    assert order.wants_ledger(1.0 + GAP_TIMEOUT)
    assert order.cursor == 10


def test_hole_is_filled_in_order() -> None:
    """[P5] What was missing is shown before what waited behind it."""
    order = SessionOrder(TASK, 0.0)
    shown(order, [progress(1, 10), progress(3, 12)])

    assert shown(order, [progress(2, 11)]) == [(1, 2), (1, 3)]


def test_older_epoch_is_never_shown() -> None:
    """[P5] After an event of a newer run one of an older run is dropped, and the newer is announced once. [A8]"""
    order = SessionOrder(TASK, 0.0)

    out = shown(order, [progress(1, 1), progress(1, 5, 2), progress(2, 2), progress(2, 6, 2)])

    assert out == [(1, 1), (2, None), (2, 1), (2, 2)]
    assert order.dropped == 1


def test_a_word_of_the_hub_begins_a_newer_run() -> None:
    """[I5] A cancel of a newer run, whose restart was lost, ends what is shown of the older one."""
    order = SessionOrder(TASK, 0.0)
    order.feed(progress(1, 1), 0.0)
    told = order.feed(event("cancel_requested", seq=5, epoch=2), 0.0)

    assert [(one.epoch, one.status or one.type) for one in told] == [(2, "restarted"), (2, "cancel_requested")]
    assert shown(order, [progress(2, 2), progress(1, 6, epoch=2)]) == [(2, 1)]


def test_terminal_waits_for_what_is_missing() -> None:
    """[P4] [B17] A terminal event with something missing asks the hub at once; is that no use it is shown marked."""
    order = SessionOrder(TASK, 0.0)

    assert shown(order, [progress(2, 2), terminal(2, 3)], 1.0) == []
    assert order.wants_ledger(1.0)
    order.asked(1.0)
    assert order.tick(1.0 + GAP_REPAIR_TIMEOUT - 0.1) == []
    out = order.tick(1.0 + GAP_REPAIR_TIMEOUT)

    assert [(one.type, one.n, one.gap) for one in out] == [("progress", 2, False), ("terminal", None, True)]
    assert out[-1]["gap"] is True
    assert order.due() is None


def test_terminal_of_a_newer_epoch_is_not_a_restart() -> None:
    """[P4] A task cancelled while nobody held it ends in a newer epoch, which is no restart."""
    order = SessionOrder(TASK, 0.0)

    out = [one for fed in (progress(1, 1), terminal(0, 2, 2, "canceled")) for one in order.feed(fed, 0.0)]

    assert [one.type for one in out] == ["progress", "terminal"]


def test_restart_is_told_behind_a_terminal() -> None:
    """[P5] Events of a newer run that are found only after its end was heard are announced like any."""
    order = SessionOrder(TASK, 0.0)
    stored = [progress(1, 1), terminal(1, 4, 2), event("system", status="restarted", seq=2, epoch=2), progress(1, 3, 2)]

    out = [one for fed in stored for one in order.feed(fed, 0.0)]

    assert [(one.type, one.status) for one in out] == [
        ("progress", None),
        ("system", "restarted"),
        ("progress", None),
        ("terminal", None),
    ]


def test_silence_polls() -> None:
    """Nothing heard for the poll interval asks the hub; a word of the task puts it off."""
    order = SessionOrder(TASK, 0.0)
    order.feed(progress(1, 1), 4.0)

    assert not order.wants_ledger(SESSION_POLL)
    assert order.wants_ledger(4.0 + SESSION_POLL)


def test_doubt_outlives_news() -> None:
    """A loss that the network admitted is looked after although another event came meanwhile."""
    order = SessionOrder(TASK, 0.0)
    order.ask_now(1.0)
    order.feed(progress(1, 1), 1.0)

    assert order.wants_ledger(1.0)


def test_row_alone_ends_a_session() -> None:
    """[P4] Where the ledger keeps no events any more, the row of an ended task makes the terminal event."""
    order = SessionOrder(TASK, 0.0)

    out = order.feed_ledger(row("failed", last_n=0), [], 0.0, after=0)

    assert [(one.type, one.state) for one in out] == [("terminal", "failed")]


def test_cancel_requested_once() -> None:
    """That a cancel was asked for is shown at most once."""
    order = SessionOrder(TASK, 0.0)
    asked = [event("cancel_requested", seq=seq, ts=1) for seq in (1, 2)]

    assert len([one for fed in asked for one in order.feed(fed, 0.0)]) == 1


def test_a_word_of_the_hub_that_was_lost_is_shown_before_the_end() -> None:
    """[P4] The end names the hub's own events of its run: one that did not come is had from the ledger first. [A9]"""
    order = SessionOrder(TASK, 0.0)
    end = terminal(2, 13, state="canceled", hubSeqs=[11])
    lost = event("cancel_requested", seq=11)

    assert shown(order, [progress(1, 10), progress(2, 12), end], 1.0) == [(1, 1), (1, 2)]
    assert (order.wants_ledger(1.0), order.cursor) == (True, 10)
    out = order.feed_ledger(row("canceled", last_n=2), [lost, progress(2, 12), end], 1.0, after=10)

    assert [one.type for one in out] == ["cancel_requested", "terminal"]
    assert not out[-1].gap


def test_a_word_that_the_ledger_lacks_is_not_waited_for() -> None:
    """[P4] Where the ledger was read and has no such event, the end is shown as it is."""
    order = SessionOrder(TASK, 0.0)
    end = terminal(0, 13, hubSeqs=[11])

    assert order.feed(end, 1.0) == []
    assert order.feed_ledger(row("completed"), [], 1.0, after=11) == []
    assert order.feed_ledger(row("completed"), [end], 1.0, after=10) == [end]


def test_an_older_word_of_the_hub_undoes_no_newer_one() -> None:
    """[P5] A pause that is found after its resume was shown is not shown: the task is not paused."""
    order = SessionOrder(TASK, 0.0)
    order.feed(event("system", status="resumed", seq=12), 0.0)

    assert order.feed(event("system", status="paused", seq=11), 0.0) == []
    assert order.feed(terminal(0, 13, hubSeqs=[11, 12]), 0.0)[0].type == "terminal"


def test_foreign_task_and_unknown_type() -> None:
    """Events of another task and of an unknown type are not shown."""
    order = SessionOrder(TASK, 0.0)
    foreign = TaskEvent.of({"type": "progress", "taskId": "other", "epoch": 1, "n": 1, "seq": 1})

    assert shown(order, [foreign, event("gossip", seq=9)]) == []
    assert order.dropped == 1
