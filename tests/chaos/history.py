"""What a chaos run left: the notes of everybody, and the ledger, put together for who judges it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos.notes import read
from chaos.wishes import wish

from blocks_worker.protocol.leases import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from chaos.plan import Plan

    Note = dict[str, Any]


@dataclass
class Run:
    """One run of a handler, by its own notes; `end` is None when it never came to it."""

    task: str
    attempt: int
    pid: int
    start: float
    end: float | None = None
    #: From when to when it waited without a slot; None is until its end.
    rests: list[tuple[float, float | None]] = field(default_factory=list)


@dataclass
class Session:
    """What one session told; `is_whole` when its consumer was not killed."""

    name: str
    task: str
    told: list[Note] = field(default_factory=list)
    is_whole: bool = False

    @property
    def terminals(self) -> list[Note]:
        """The terminal events that it told."""
        return [note for note in self.told if note["type"] == "terminal"]


@dataclass
class History:
    """Everything that is known of a run."""

    plan: Plan
    runs: list[Run]
    #: When handlers saw that they were to stop.
    flags: dict[str, list[float]]
    #: What each run of a task had as the value of a step: task and step, and the values; and who began to do it.
    steps: dict[tuple[str, int], list[Note]]
    done: dict[tuple[str, int], list[Note]]
    #: What each task's runs were answered, None when nobody did in time; and what consumers tried, and were told.
    heard: dict[str, list[Note]]
    answering: dict[str, set[str]]
    answered: dict[str, list[Note]]
    #: What the ledger has as the answer.
    answers: dict[str, str | None]
    #: What consumers noted of pauses, in order: `paused`, `resuming` and `resumed`.
    pauses: dict[str, list[Note]]
    #: When each number was first asked, and the tasks that were acknowledged for it, with when.
    asked: dict[int, float]
    acknowledged: dict[int, list[tuple[str, float]]]
    #: When a stop was first asked, and first acknowledged.
    stopping: dict[str, float]
    stopped: dict[str, float]
    sessions: list[Session]
    faults: list[Note]
    rows: dict[str, Note]
    #: The stored events of each task.
    events: dict[str, list[Note]]
    #: What SQLite says of the file.
    integrity: str
    refused: list[Note]

    def wish(self, number: int) -> Note:
        """Return what a number was to do."""
        return wish(self.plan.seed, number)

    def of(self, word: str) -> list[Note]:
        """Return the faults of one word."""
        return [note for note in self.faults if note["word"] == word]

    def is_away(self, pid: int, since: float, until: float) -> bool:
        """Tell whether a process was stopped, cut off, asked to end, or had its key taken away, so that it may lag."""
        for note in self.faults:
            if note["at"] > until:
                break
            held = note.get("seconds", 0.0) if note["word"] == "wire" else Numbers().lease_ttl
            if note["at"] + held < since:
                continue
            if note["word"] in {"signal", "revoked"} and note["process"] == pid:
                return True
            if note["word"] == "wire" and note["wire"] < 2:
                return True
        return False

    def numbers(self) -> dict[str, int]:
        """Return the number of each task."""
        return {task: number for number, told in self.acknowledged.items() for task, _ in told}

    def runs_of(self) -> dict[str, list[Run]]:
        """Return the runs of each task, in order."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            found[run.task].append(run)
        return found


def collect(plan: Plan, faults: Path, runs: Path, consumers: list[Path], ledger: Path) -> History:
    """Read everything."""
    notes = [note for path in consumers for note in read(path)]
    of_runs, notes_of = read(runs), _by_task(notes)
    rows, events, answers, integrity = _of_ledger(ledger)
    history = History(
        plan=plan,
        runs=_runs(of_runs),
        flags=_moments(note for note in of_runs if note["word"] == "flag"),
        steps=_by_step(note for note in of_runs if note["word"] == "step"),
        done=_by_step(note for note in of_runs if note["word"] == "did"),
        heard=_by_task(of_runs)["heard"],
        answering={task: {one["value"] for one in tried} for task, tried in notes_of["answering"].items()},
        answered=notes_of["answered"],
        answers=answers,
        pauses=_pauses(notes),
        asked={},
        acknowledged=defaultdict(list),
        stopping=_firsts(notes_of["stopping"]),
        stopped=_firsts(notes_of["stopped"]),
        sessions=_sessions(notes),
        faults=read(faults),
        rows=rows,
        events=events,
        integrity=integrity,
        refused=[note for note in notes if note["word"] == "refused"],
    )
    for note in notes:
        if note["word"] == "asked":
            history.asked.setdefault(note["number"], note["at"])
        elif note["word"] == "acknowledged":
            history.acknowledged[note["number"]].append((note["task"], note["at"]))
    return history


def _sessions(notes: list[Note]) -> list[Session]:
    done = {note["pid"] for note in notes if note["word"] == "done"}
    sessions: dict[str, Session] = {}
    for note in notes:
        if note["word"] == "listens":
            sessions[note["session"]] = Session(note["session"], note["task"], is_whole=note["pid"] in done)
        elif note["word"] == "told":
            sessions[note["session"]].told.append(note)
    return list(sessions.values())


def _by_task(notes: Iterable[Note]) -> dict[str, dict[str, list[Note]]]:
    """Return the notes of each word about each task."""
    found: dict[str, dict[str, list[Note]]] = defaultdict(lambda: defaultdict(list))
    for note in notes:
        if "task" in note:
            found[note["word"]][note["task"]].append(note)
    return {word: dict(of) for word, of in found.items()} | {
        word: {} for word in ("heard", "answering", "answered", "stopping", "stopped") if word not in found
    }


def _by_step(notes: Iterable[Note]) -> dict[tuple[str, int], list[Note]]:
    found: dict[tuple[str, int], list[Note]] = defaultdict(list)
    for note in notes:
        found[note["task"], note["step"]].append(note)
    return dict(found)


def _pauses(notes: Iterable[Note]) -> dict[str, list[Note]]:
    found: dict[str, list[Note]] = defaultdict(list)
    for note in sorted(notes, key=lambda one: float(one["at"])):
        if note["word"] in {"paused", "resuming", "resumed"}:
            found[note["task"]].append(note)
    return dict(found)


def _firsts(notes: dict[str, list[Note]]) -> dict[str, float]:
    return {task: min(one["at"] for one in told) for task, told in notes.items()}


def _runs(notes: list[Note]) -> list[Run]:
    runs: list[Run] = []
    running: dict[tuple[str, int, int], Run] = {}
    for note in notes:
        if note["word"] not in {"start", "end", "parks", "goes on"}:
            continue
        key = (note["task"], note["attempt"], note["pid"])
        if note["word"] == "parks":
            running[key].rests.append((note["at"], None))
        elif note["word"] == "goes on":
            running[key].rests.append((running[key].rests.pop()[0], note["at"]))
        elif note["word"] == "start":
            running[key] = Run(note["task"], note["attempt"], note["pid"], note["at"])
            runs.append(running[key])
        else:
            running[key].end = note["at"]
    return runs


def _moments(notes: Iterable[Note]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for note in notes:
        found[note["task"]].append(note["at"])
    return found


def _of_ledger(ledger: Path) -> tuple[dict[str, Note], dict[str, list[Note]], dict[str, str | None], str]:
    """Read the hub's file, which nobody has open any more."""
    database = sqlite3.connect(ledger)
    database.row_factory = sqlite3.Row
    try:
        rows = {row["id"]: dict(row) for row in database.execute("SELECT * FROM task")}
        events: dict[str, list[Note]] = defaultdict(list)
        for task, body in database.execute("SELECT task, body FROM event ORDER BY seq"):
            events[task].append(json.loads(body))
        stored = database.execute("SELECT task, value FROM answer")
        answers = {task: None if value is None else json.loads(value) for task, value in stored}
        return rows, events, answers, str(database.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        database.close()
