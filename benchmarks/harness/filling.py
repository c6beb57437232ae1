"""Fill a ledger whose hub is stopped with finished tasks: copies of one that ran, with other ids and owners."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
#: The oldest ended so long ago: none is purged while it is measured, an ended task stays for seven days.
_AGE_MS = 6 * _DAY_MS
#: Other owners, and their agents.
_OWNERS, _AGENTS = 20, 50
#: The share of the tasks that is of the client that is measured, and of its agent.
_OURS = 0.5
#: As many tasks are written at once.
_CHUNK = 10_000
#: The columns that say a time, all as far back as the copy is older.
_TIMES = ("leased_at", "created", "updated", "ended", "purge_at", "rank")
_PUBLISHED = "UPDATE meta SET value = (SELECT max(seq) FROM event) WHERE key = 'published_seq'"
_USAGE = (
    "INSERT OR REPLACE INTO usage (owner, input_bytes) "
    "SELECT owner, sum(length(start)) FROM task JOIN task_input ON task_input.task = task.id GROUP BY owner"
)


def finished(file: Path) -> int:
    """Return how many finished tasks a ledger has."""
    with closing(sqlite3.connect(file)) as ledger:
        (count,) = ledger.execute("SELECT count(*) FROM task WHERE ended IS NOT NULL").fetchone()
        return int(count)


def fill(file: Path, count: int) -> None:
    """Copy finished tasks until there are so many.

    Raises:
        ValueError: there is none to copy, or there are more already.
    """
    there = finished(file)
    if not 0 < there <= count:
        raise ValueError(f"a ledger with {there} finished tasks cannot be filled to {count}")
    with closing(sqlite3.connect(file, isolation_level=None)) as ledger:
        # What is lost when the machine fails is filled anew: no journal, no sync.
        ledger.executescript("PRAGMA journal_mode=DELETE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        ledger.execute("BEGIN")
        sample = Sample.of(ledger)
        agents = add_agents(ledger)
        for first in range(there, count, _CHUNK):
            sample.add(ledger, first, min(count, first + _CHUNK), count, agents)
        ledger.execute(_USAGE)
        ledger.execute(_PUBLISHED)
        ledger.execute("COMMIT")
        ledger.execute("PRAGMA journal_mode=WAL")


def add_agents(ledger: sqlite3.Connection) -> list[tuple[str, str]]:
    """Have copies of the agent under other names; return each with its owner."""
    row = _rows(ledger, "SELECT * FROM agent WHERE name = 'echo'")[0]
    made = [(f"filled_{number}", f"owner-{number % _OWNERS}") for number in range(_AGENTS)]
    _insert(ledger, "agent", row, ([*{**row, "name": name, "owner": owner}.values()] for name, owner in made))
    return made


@dataclass
class Sample:
    """A finished task with all that is kept of it."""

    task: dict[str, Any]
    input: dict[str, Any]
    events: list[dict[str, Any]]
    #: The number of the last event that was written.
    seq: int
    source: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - the same spread each time

    @classmethod
    def of(cls, ledger: sqlite3.Connection) -> Sample:
        """Take the newest that completed."""
        (task,) = _rows(ledger, "SELECT * FROM task WHERE state = 'COMPLETED' ORDER BY id DESC LIMIT 1")
        (start,) = _rows(ledger, "SELECT * FROM task_input WHERE task = ?", task["id"])
        events = _rows(ledger, "SELECT * FROM event WHERE task = ? ORDER BY seq", task["id"])
        (seq,) = ledger.execute("SELECT max(seq) FROM event").fetchone()
        return cls(task, start, events, seq)

    def add(
        self, ledger: sqlite3.Connection, first: int, end: int, count: int, agents: Sequence[tuple[str, str]]
    ) -> None:
        """Write the copies from the first to before the end, of so many that share the time between them."""
        names = []
        rows = []
        for number in range(first, end):
            back = _HOUR_MS + (count - number) * (_AGE_MS - _HOUR_MS) // count
            names.append(uuid7(self.task["created"] - back, self.source))
            rows.append([*self._row(names[-1], back, agents).values()])
        _insert(ledger, "task", self.task, rows)
        _insert(ledger, "task_input", self.input, ([*{**self.input, "task": name}.values()] for name in names))
        _insert(ledger, "event", self.events[0], self._events(names))

    def _row(self, name: str, back: int, agents: Sequence[tuple[str, str]]) -> dict[str, Any]:
        row = {**self.task, "id": name}
        row.update((column, row[column] - back) for column in _TIMES)
        if self.source.random() >= _OURS:
            row["agent"], row["owner"] = self.source.choice(agents)
        return row

    def _events(self, names: Sequence[str]) -> Iterator[list[Any]]:
        old = self.task["id"].encode()
        for name in names:
            for event in self.events:
                self.seq += 1
                body = event["body"].replace(old, name.encode())
                yield [*{**event, "seq": self.seq, "task": name, "body": body}.values()]


def uuid7(at: int, source: random.Random) -> str:
    """Return an id as the product makes them: the time in it, the rest by chance."""
    digits = f"{at:012x}7{source.getrandbits(12):03x}{0x8000 | source.getrandbits(14):04x}{source.getrandbits(48):012x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _rows(ledger: sqlite3.Connection, query: str, *values: object) -> list[dict[str, Any]]:
    cursor = ledger.execute(query, values)
    names = [each[0] for each in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(ledger: sqlite3.Connection, table: str, like: dict[str, Any], rows: Any) -> None:
    """Insert rows that have the columns of another."""
    places = ", ".join("?" * len(like))
    ledger.executemany(f"INSERT INTO {table} ({', '.join(like)}) VALUES ({places})", rows)  # noqa: S608 - our own names
