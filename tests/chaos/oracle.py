"""The oracle: one history against what is promised; each sentence that it yields is one thing that was wrong.

I1 what was accepted ends. I2 it ends once. I3 each session tells one end, the ledger's. I4 the events of the last
epoch are all there and in order. I5 no older epoch comes after a newer one. I6 nobody runs what another one has.
I7 what was stopped ends within its bound, and never runs if it had not begun. I8 one key is one task. I11 what may be
begun once is. I12 nothing begins before its time, and nobody has more than its slots. Of questions, pauses and steps
judges `waits`. I9, that nothing grows, is for a longer run to show.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from chaos.waits import OF_WAITS
from chaos.wishes import ENDS, UNSTORED

from blocks_worker.protocol.leases import Numbers
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, SHOWN, SHOWN_TERMINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.history import History, Note, Run

#: Seconds that a task may be later than its bound: a sweep, and a machine that is busy.
LATE = 5.0
#: Seconds by which a handler may begin too early: two clocks are read one after another.
EARLY = 0.05
#: Exit codes of a worker that somebody asked to end.
CLEAN = 0


def wrongs(history: History) -> list[str]:
    """Return what was wrong; nothing, if all is well."""
    return [wrong for check in CHECKS for wrong in check(history)]


def shown(row: Note) -> str:
    """Return the state that users see."""
    if row["state"] == State.EXPIRED.value and row["reason"] == DURATION_EXPIRED:
        return "completed"
    return SHOWN[State(row["state"])]


def lost(history: History) -> Iterator[str]:
    """I1: whatever was asked for was acknowledged, and whatever was acknowledged has ended."""
    for number in range(history.plan.tasks):
        if number not in history.acknowledged:
            yield f"I1: number {number} was never acknowledged"
    for number, told in history.acknowledged.items():
        row = history.rows.get(told[0][0])
        if row is None:
            yield f"I1: task {told[0][0]} was acknowledged and is in no row"
        elif shown(row) not in SHOWN_TERMINAL:
            yield f"I1: task {row['id']} ({history.wish(number)['kind']}) stands at {row['state']}"


def ends(history: History) -> Iterator[str]:
    """I2: the ledger has one terminal event for each, which is an end that the task may have."""
    numbers = history.numbers()
    for task, row in history.rows.items():
        terminals = [event for event in history.events[task] if event["type"] == "terminal"]
        if len(terminals) > 1:
            yield f"I2: task {task} has {len(terminals)} terminal events"
        if task in numbers and shown(row) in SHOWN_TERMINAL:
            kind = history.wish(numbers[task])["kind"]
            code = row["error_code"] if shown(row) == "failed" else None
            end = (shown(row), code)
            if end not in ENDS[kind] or (end == UNSTORED and not history.of("disk filled")):
                yield f"I2: task {task} ({kind}) ended {shown(row)} ({code}: {row['error']}; {row['reason']})"


def sessions(history: History) -> Iterator[str]:
    """I3: a session told one end, as the last of all, and it is the ledger's."""
    for session in history.sessions:
        terminals, row = session.terminals, history.rows.get(session.task)
        if len(terminals) > 1 or (session.is_whole and not terminals):
            yield f"I3: session {session.name} of {session.task} told {len(terminals)} ends"
        elif terminals and row is not None:
            told = terminals[0]
            if (told["state"], told["epoch"], told["last_n"]) != (shown(row), row["epoch"], row["last_n"]):
                yield f"I3: session {session.name} of {session.task} told {told}, the ledger has {row}"
            if session.told[-1] is not told:
                yield f"I3: session {session.name} of {session.task} told {session.told[-1]} after the end"


def order(history: History) -> Iterator[str]:
    """I4, I5: all events of the last epoch, in order; no older epoch after a newer one."""
    for task, row in history.rows.items():
        kept = [event["n"] for event in history.events[task] if event["epoch"] == row["epoch"] and "n" in event]
        if shown(row) in SHOWN_TERMINAL and kept != list(range(1, row["last_n"] + 1)):
            yield f"I4: the ledger has {kept} of {row['last_n']} events of {task}"
    for session in history.sessions:
        epochs = [note["epoch"] for note in session.told]
        if epochs != sorted(epochs):
            yield f"I5: session {session.name} of {session.task} told the epochs {epochs}"
        by_epoch: dict[int, list[int]] = defaultdict(list)
        for note in session.told:
            if note["n"] is not None:
                by_epoch[note["epoch"]].append(note["n"])
        for epoch, told in by_epoch.items():
            if told != list(range(1, len(told) + 1)):
                yield f"I4: session {session.name} of {session.task} told {told} of epoch {epoch}"
        for end in session.terminals:
            told = by_epoch[end["epoch"]]
            if not end["gap"] and len(told) != end["last_n"]:
                yield f"I4: session {session.name} of {session.task} told {len(told)} of {end['last_n']} events"


def overlaps(history: History) -> Iterator[str]:
    """I6: a task begins again only when the run before it ended, or its process died or was away for long."""
    for before, again in overlapping(history):
        if not history.is_away(before.pid, before.start, again.start):
            yield f"I6: task {again.task} began in {again.pid} while it ran in {before.pid} since {before.start}"


def overlapping(history: History) -> Iterator[tuple[Run, Run]]:
    """Yield each run that began while another one of the task was alive."""
    died = _deaths(history)
    for runs in history.runs_of().values():
        for before, again in pairwise(runs):
            over = before.end if before.end is not None else died.get(before.pid, float("inf"))
            if again.start < over and again.start < died.get(before.pid, float("inf")):
                yield before, again


def stops(history: History) -> Iterator[str]:
    """I7: what was asked to stop ends within grace and lease; what had no lease by then never ran."""
    runs = history.runs_of()
    away = _hub_away(history)
    ended = {note["task"]: note["at"] for one in history.sessions for note in one.terminals[:1]}
    killed = [note["at"] for note in history.of("consumer killed")]
    for task, at in history.stopped.items():
        row = history.rows.get(task)
        if row is None or task not in ended:
            continue
        bound = Numbers().cancel_grace + Numbers().lease_grace + LATE
        bound += sum(min(until, ended[task]) - since for since, until in away if at <= since <= ended[task])
        if ended[task] - at > bound and not any(at <= moment <= ended[task] for moment in killed):
            yield f"I7: task {task} ended {ended[task] - at:.1f} s after its stop"
        if row["attempt"] == 0 and runs[task]:
            yield f"I7: task {task} was stopped before it began, and ran"


def keys(history: History) -> Iterator[str]:
    """I8: a key is one task, and there are no others."""
    for number, told in history.acknowledged.items():
        if len({task for task, _ in told}) != 1:
            yield f"I8: number {number} is the tasks {told}"
    unknown = set(history.rows) - set(history.numbers())
    if unknown:
        yield f"I8: nobody asked for the tasks {sorted(unknown)[:5]} ({len(unknown)} in all)"


def once(history: History) -> Iterator[str]:
    """I11: what may be begun once was begun once at most; a pipe too."""
    numbers = history.numbers()
    for task, runs in history.runs_of().items():
        kind = history.wish(numbers[task])["kind"] if task in numbers else ""
        if kind in {"once", "pipe"} and len(runs) > 1:
            yield f"I11: task {task} ({kind}) was begun {len(runs)} times"


def limits(history: History) -> Iterator[str]:
    """I12: nothing begins before its time, and no process runs more than it has slots."""
    numbers = history.numbers()
    moved = [note["at"] for note in history.of("clock moved") if note["whose"] == "hub"]
    for task, runs in history.runs_of().items():
        number = numbers.get(task)
        delay = 0.0 if number is None else history.wish(number).get("delay", 0.0)
        if number is not None and delay:
            asked = history.asked[number]
            if runs[0].start < asked + delay - EARLY and not any(asked <= at <= runs[0].start for at in moved):
                yield f"I12: task {task} began {runs[0].start - asked:.2f} s after it was asked, not {delay} s"
    steps: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for run in history.runs:
        if run.end is not None:
            steps[run.pid] += [(run.start, 1), (run.end, -1)]
            for since, until in run.rests:
                steps[run.pid] += [(since, -1), (until or run.end, 1)]
    for pid, changes in steps.items():
        held = most = 0
        for _, change in sorted(changes, key=lambda one: (one[0], one[1])):
            held += change
            most = max(most, held)
        if most > history.plan.slots:
            yield f"I12: process {pid} ran {most} at once and has {history.plan.slots} slots"


def processes(history: History) -> Iterator[str]:
    """No process ended for another reason than what was done to it, and drains kept their time."""
    for note in history.of("died"):
        yield f"D: worker {note['worker']} ended with {note['code']} while it was {note['state']}: {note['text']}"
    for note in history.of("drained"):
        # Before there is any Python that could hear a signal, the system ends the process for it.
        clean = {CLEAN} if note["was_ready"] else {CLEAN, -signal.SIGTERM}
        if note["code"] not in clean or note["seconds"] > history.plan.drain_timeout + 10:
            yield f"D: worker {note['worker']} drained in {note['seconds']} s and ended with {note['code']}"
    for note in (*history.of("consumer ended"), *history.of("ended"), *history.of("hub ended")):
        if note["code"] not in {CLEAN, -signal.SIGKILL}:
            yield f"D: {note}"
    if history.integrity != "ok":
        yield f"E: integrity_check says {history.integrity}"


#: One function for each promise.
CHECKS = (lost, ends, sessions, order, overlaps, stops, keys, once, limits, processes, *OF_WAITS)


def _deaths(history: History) -> dict[int, float]:
    """Return when each worker process died or was seen to have ended."""
    died = {note["process"]: note["at"] for note in history.of("signal") if note["signal"] == "SIGKILL"}
    process: dict[int, int] = {}
    for note in history.faults:
        if note["word"] == "worker started":
            before = process.get(note["worker"])
            if before is not None:
                died.setdefault(before, note["at"])
            process[note["worker"]] = note["process"]
    return died


def _hub_away(history: History) -> list[tuple[float, float]]:
    """Return from when to when there was no hub."""
    killed = [note["at"] for note in history.of("hub killed")]
    started = [note["at"] + 2.0 for note in history.of("hub started")]
    return [(at, min((moment for moment in started if moment > at), default=at)) for at in killed]
