"""A whole system is broken and judged; and the judge is shown histories that are wrong."""

from __future__ import annotations

import copy
import os
import random
from typing import TYPE_CHECKING

import pytest
from chaos.figures import Figures
from chaos.oracle import shown, wrongs
from chaos.plan import Plan
from chaos.play import play
from chaos.waits import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chaos.history import History, Session


def seed() -> int:
    """Return the seed that CHAOS_SEED asks for, else a new one; the figures name it."""
    return int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))


#: Everything goes wrong within some seconds, each at least once.
SHORT = {
    "tasks": 150,
    "seconds": 14.0,
    "worker_every": 1.0,
    "hub_every": 7.0,
    "consumer_every": 6.0,
    "wire_every": 3.0,
    "revoke_every": 9.0,
    "disk_every": 6.0,
    "clock_every": 3.0,
    "long_stops": 0.0,
    "settle": 120.0,
    "aims": True,
}


@pytest.mark.timeout(300)
def test_a_broken_system_keeps_its_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Workers, hub and consumers die, wires, keys, disk and clocks fail: each task ends, once. [D1] [D2] [P1]

    The judge is then shown what would have been wrong, in each way: one run of processes serves both.
    """
    history = play(Plan(seed=seed(), **SHORT), tmp_path)
    figures = _judged(history, capsys)
    assert len(figures.restarts) + len(figures.gone) >= 1, "no worker was killed in the middle of a task"
    assert figures.faults["hub killed"] >= 1
    assert figures.faults["consumer killed"] >= 1
    assert figures.heard >= 1, "no handler was answered"
    assert figures.paused >= 1, "no pause was acknowledged before its resume"
    assert sum(count for fault, count in figures.faults.items() if fault.endswith("wire")) >= 2
    assert [breaks.__name__ for breaks, promise in BROKEN.items() if not _sees(history, breaks, promise)] == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", ["pubnub", "hublink"])
def test_a_system_that_is_broken_for_long_keeps_its_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], transport: str
) -> None:
    """The same for two minutes, with stops that outlast a lease. [B12] [P3] [P4]"""
    plan = Plan(seed=seed(), tasks=1500, seconds=120.0, transport=transport, hub_every=30.0, long_stops=0.2)
    figures = _judged(play(plan, tmp_path), capsys)
    assert len(figures.restarts) + len(figures.gone) >= 5
    assert figures.faults["hub killed"] >= 2
    assert figures.heard_again >= 5
    assert figures.paused >= 20


def _judged(history: History, capsys: pytest.CaptureFixture[str]) -> Figures:
    """Say what a run came to, and judge it."""
    wrong = wrongs(history)
    figures = Figures.of(history, wrong)
    with capsys.disabled():
        print(f"\nseed {history.plan.seed}\n{figures}")  # noqa: T201 - the figures say what was proved
    assert not wrong, "\n".join([f"seed {history.plan.seed}", *wrong[:10]])
    return figures


# ---------------------------------------------------------------------------------------------- the judge
def _ended(history: History) -> Iterator[tuple[Session, str]]:
    """Yield each whole session of a task that ran once, and its task."""
    runs = history.runs_of()
    for session in history.sessions:
        if session.is_whole and session.terminals and len(runs[session.task]) == 1:
            yield session, session.task


def _of_kind(history: History, kind: str) -> str:
    numbers = history.numbers()
    return next(task for task in history.runs_of() if history.wish(numbers[task])["kind"] == kind)


def forgets_a_task(history: History) -> None:
    """A task that was acknowledged is not there."""
    del history.rows[next(_ended(history))[1]]


def never_ends_a_task(history: History) -> None:
    """A task still runs."""
    history.rows[next(_ended(history))[1]]["state"] = "RUNNING"


def never_answers(history: History) -> None:
    """Nobody answers one submit."""
    del history.acknowledged[0]


def ends_twice(history: History) -> None:
    """The ledger has two terminal events of one task."""
    task = next(_ended(history))[1]
    history.events[task].append(history.events[task][-1])


def ends_otherwise(history: History) -> None:
    """A task that was to complete has failed."""
    history.rows[_of_kind(history, "plain")].update(state="FAILED", error_code="handler_error")


def tells_no_end(history: History) -> None:
    """A session is over and has told no end."""
    next(_ended(history))[0].told.pop()


def tells_two_ends(history: History) -> None:
    """A session tells its end again."""
    session = next(_ended(history))[0]
    session.told.append(session.told[-1])


def tells_another_end(history: History) -> None:
    """A session tells an end that is not the ledger's."""
    session, task = next(_ended(history))
    session.told[-1]["state"] = "failed" if shown(history.rows[task]) != "failed" else "completed"


def tells_after_the_end(history: History) -> None:
    """A session tells an event after the end."""
    session = next(one for one, _ in _ended(history) if len(one.told) > 1)
    session.told[-2:] = reversed(session.told[-2:])


def leaves_an_event_out(history: History) -> None:
    """A session leaves a durable event out."""
    session = next(one for one, _ in _ended(history) if any(note["n"] == 1 for note in one.told))
    session.told[:] = [note for note in session.told if note["n"] != 1]


def loses_a_stored_event(history: History) -> None:
    """The ledger has lost an event."""
    task = next(task for task, row in history.rows.items() if row["last_n"] > 0)
    history.events[task] = [event for event in history.events[task] if event.get("n") != 1]


def goes_back_an_epoch(history: History) -> None:
    """A session tells an event of an older epoch."""
    session = next(one for one, _ in _ended(history) if len(one.told) > 2)
    session.told[0]["epoch"] = session.told[-1]["epoch"] + 1


def runs_beside(history: History) -> None:
    """A task begins in another process while its first run goes on."""
    run = next(runs[0] for runs in history.runs_of().values() if len(runs) == 1 and runs[0].end is not None)
    again = copy.copy(run)
    again.pid, again.start = 1, (run.start + (run.end or 0.0)) / 2
    history.faults = [note for note in history.faults if note["word"] not in {"signal", "wire", "revoked"}]
    history.runs.append(again)


def stops_too_late(history: History) -> None:
    """A task ends minutes after its stop."""
    task = next(one.task for one in history.sessions if one.task in history.stopped and one.terminals)
    history.faults = [note for note in history.faults if note["word"] != "consumer killed"]
    history.stopped[task] -= 600


def runs_what_was_stopped(history: History) -> None:
    """A task that was stopped before it had a lease runs."""
    task = next(
        one.task
        for one in history.sessions
        if one.terminals and one.task in history.stopped and not history.rows[one.task]["attempt"]
    )
    run = copy.copy(history.runs[0])
    run.task = task
    history.runs.append(run)


def makes_two_of_a_key(history: History) -> None:
    """One key is two tasks."""
    history.acknowledged[0].append((history.acknowledged[1][0][0], 0.0))


def makes_one_of_nothing(history: History) -> None:
    """There is a task for which nobody asked."""
    history.rows["another"] = {**next(iter(history.rows.values())), "id": "another"}


def forgets_a_step(history: History) -> None:
    """A later run has another value of a step."""
    had = next(iter(history.steps.values()))
    had.append({**had[0], "value": "another"})


def does_a_step_again(history: History) -> None:
    """A run that begins after a step was stored does it once more."""
    (task, step), had = next(iter(history.steps.items()))
    history.faults = []
    run = copy.copy(next(run for run in history.runs if run.task == task))
    run.pid, run.start = 1, had[0]["at"] + 1
    history.runs.append(run)
    history.done[task, step].append({**had[0], "pid": 1, "at": run.start + 0.1})


def _answered(history: History) -> str:
    """Return a task that was answered, and heard it."""
    return next(
        task
        for task, told in history.answered.items()
        if any(note["stands"] is not None for note in told) and history.heard.get(task)
    )


def answers_otherwise(history: History) -> None:
    """A run gets another answer than the one that was accepted."""
    task = _answered(history)
    history.heard[task].append({**history.heard[task][0], "value": "another"})


def answers_nobody(history: History) -> None:
    """A run is told that nobody answered, though somebody was told that his answer stands."""
    task = _answered(history)
    history.heard[task][0]["value"] = None


def accepts_two(history: History) -> None:
    """Two who answered are both told that theirs stands."""
    told = history.answered[_answered(history)]
    told.append({**told[0], "stands": "another", "code": None})


def loses_an_answer(history: History) -> None:
    """What was accepted is not in the ledger."""
    del history.answers[_answered(history)]


def makes_an_answer_up(history: History) -> None:
    """A run, and the ledger, have an answer that nobody gave."""
    task = next(task for task in history.heard if history.wish(history.numbers()[task])["kind"] == "unanswered")
    history.answers[task] = "made up"
    for note in history.heard[task]:
        note["value"] = "made up"


def never_hears(history: History) -> None:
    """A task that asks is completed, and no run was answered."""
    del history.heard[next(task for task in history.heard if history.rows[task]["state"] == "COMPLETED")]


def asks_again(history: History) -> None:
    """A later run asks what was answered."""
    events = history.events[_answered(history)]
    question = next(event for event in events if event["type"] == "question")
    events.append({**question, "epoch": question["epoch"] + 1})


def speaks_while_it_asks(history: History) -> None:
    """A run says something while its question is open."""
    events = history.events[_answered(history)]
    place = next(place for place, event in enumerate(events) if event["type"] == "question")
    events.insert(place + 1, {**events[place], "type": "progress", "n": 1})


def speaks_while_it_waits(history: History) -> None:
    """A run says something between its pause and its resume."""
    told = next(told for told in history.events.values() if any(event.get("n") == 1 for event in told))
    place = next(place for place, event in enumerate(told) if event.get("n") == 1)
    told.insert(place, {**told[place], "type": "system", "status": "paused"})


def begins_while_paused(history: History) -> None:
    """A paused task begins in another process."""
    task, since, until = next(held(history))
    history.faults = []
    run = copy.copy(history.runs[0])
    run.task, run.pid, run.start, run.rests = task, 1, since + min(until - since, 1.0) / 2, []
    history.runs.append(run)


def goes_on_while_paused(history: History) -> None:
    """A handler that waits for the resume does not."""
    begins_while_paused(history)
    run = history.runs[-1]
    run.rests = [(run.start - 1, run.start)]
    run.start -= 60


def begins_twice(history: History) -> None:
    """What may be begun once is begun again."""
    task = _of_kind(history, "once")
    history.runs.append(copy.copy(next(run for run in history.runs if run.task == task)))


def begins_too_soon(history: History) -> None:
    """A task begins before its time."""
    task = _of_kind(history, "delayed")
    history.faults = [note for note in history.faults if note["word"] != "clock moved"]
    history.runs_of()[task][0].start = history.asked[history.numbers()[task]] + 0.5


def has_too_many(history: History) -> None:
    """A process runs more than it has slots."""
    run = next(run for run in history.runs if run.end is not None)
    for _ in range(history.plan.slots):
        history.runs.append(copy.copy(run))


def dies_by_itself(history: History) -> None:
    """A worker ends, and nobody asked it to."""
    history.faults.append({"word": "died", "at": 0.0, "worker": 0, "code": 1, "state": "up", "text": ""})


def drains_for_ever(history: History) -> None:
    """A worker takes its time to drain."""
    history.faults.append({"word": "drained", "at": 0.0, "worker": 0, "code": 0, "seconds": 60.0, "was_ready": True})


def breaks_the_file(history: History) -> None:
    """The database is damaged."""
    history.integrity = "row 3 missing from index"


BROKEN = {
    forgets_a_task: "I1",
    never_ends_a_task: "I1",
    never_answers: "I1",
    ends_twice: "I2",
    ends_otherwise: "I2",
    tells_no_end: "I3",
    tells_two_ends: "I3",
    tells_another_end: "I3",
    tells_after_the_end: "I3",
    leaves_an_event_out: "I4",
    loses_a_stored_event: "I4",
    goes_back_an_epoch: "I5",
    runs_beside: "I6",
    stops_too_late: "I7",
    runs_what_was_stopped: "I7",
    makes_two_of_a_key: "I8",
    makes_one_of_nothing: "I8",
    forgets_a_step: "I10",
    does_a_step_again: "I10",
    answers_otherwise: "I10",
    answers_nobody: "I10",
    accepts_two: "I10",
    loses_an_answer: "I10",
    makes_an_answer_up: "I10",
    never_hears: "I10",
    asks_again: "I10",
    speaks_while_it_asks: "S",
    speaks_while_it_waits: "S",
    begins_while_paused: "I12",
    goes_on_while_paused: "I12",
    begins_twice: "I11",
    begins_too_soon: "I12",
    has_too_many: "I12",
    dies_by_itself: "D",
    drains_for_ever: "D",
    breaks_the_file: "E",
}


def _sees(history: History, breaks: Callable[[History], None], promise: str) -> bool:
    """Tell whether the judge finds what is wrong with a history, and names the promise that is broken."""
    broken = copy.deepcopy(history)
    breaks(broken)
    return promise in {wrong.partition(":")[0] for wrong in wrongs(broken)}
