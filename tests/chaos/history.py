"""What a chaos run left: the notes of everybody, and the ledger, put together for who judges it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos.notes import read
from chaos.wishes import wish

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
    #: What each run of a task had as the value of a step: task and step, and the values.
    steps: dict[tuple[str, int], list[str]]
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
    rows, events, integrity = _of_ledger(ledger)
    history = History(
        plan=plan,
        runs=_runs(read(runs)),
        flags=_moments(note for note in read(runs) if note["word"] == "flag"),
        steps=defaultdict(list),
        asked={},
        acknowledged=defaultdict(list),
        stopping={},
        stopped={},
        sessions=[],
        faults=read(faults),
        rows=rows,
        events=events,
        integrity=integrity,
        refused=[note for note in notes if note["word"] == "refused"],
    )
    done = {note["pid"] for note in notes if note["word"] == "done"}
    for note in read(runs):
        if note["word"] == "step":
            history.steps[note["task"], note["step"]].append(note["value"])
    sessions: dict[str, Session] = {}
    for note in notes:
        if note["word"] == "asked":
            history.asked.setdefault(note["number"], note["at"])
        elif note["word"] == "acknowledged":
            history.acknowledged[note["number"]].append((note["task"], note["at"]))
        elif note["word"] == "stopping":
            history.stopping.setdefault(note["task"], note["at"])
        elif note["word"] == "stopped":
            history.stopped.setdefault(note["task"], note["at"])
        elif note["word"] == "listens":
            sessions[note["session"]] = Session(note["session"], note["task"], is_whole=note["pid"] in done)
        elif note["word"] == "told":
            sessions[note["session"]].told.append(note)
    history.sessions = list(sessions.values())
    return history


def _runs(notes: list[Note]) -> list[Run]:
    runs: list[Run] = []
    running: dict[tuple[str, int, int], Run] = {}
    for note in notes:
        if note["word"] not in {"start", "end"}:
            continue
        key = (note["task"], note["attempt"], note["pid"])
        if note["word"] == "start":
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


def _of_ledger(ledger: Path) -> tuple[dict[str, Note], dict[str, list[Note]], str]:
    """Read the hub's file, which nobody has open any more."""
    database = sqlite3.connect(ledger)
    database.row_factory = sqlite3.Row
    try:
        rows = {row["id"]: dict(row) for row in database.execute("SELECT * FROM task")}
        events: dict[str, list[Note]] = defaultdict(list)
        for task, body in database.execute("SELECT task, body FROM event ORDER BY seq"):
            events[task].append(json.loads(body))
        return rows, events, str(database.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        database.close()
