"""What the database itself notices of each offer, by triggers that the parts under test know nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

#: Milliseconds of head start for one level.
LEVEL = 60_000

_SET_UP = """
CREATE TEMP TABLE plan (name TEXT PRIMARY KEY, rank INTEGER);
CREATE TEMP TABLE overtaken (later TEXT, earlier TEXT);
CREATE TEMP TRIGGER offered AFTER UPDATE OF state ON task WHEN NEW.state = 'OFFERED' BEGIN
    INSERT INTO overtaken SELECT NEW.id, w.id
    FROM task w JOIN plan p ON p.name = w.idem JOIN plan n ON n.name = NEW.idem
    WHERE w.state = 'QUEUED' AND w.pause = 0 AND w.ready_at IS NULL AND w.attempt = 0 AND NEW.attempt = 0
    AND (w.deadline IS NULL OR w.deadline > NEW.updated) AND w.created + p.rank < NEW.created + n.rank;
END;
"""


def set_up(driver: sqlite3.Connection) -> None:
    """Begin to watch."""
    driver.executescript(_SET_UP)


def planned(driver: sqlite3.Connection, key: str, delay: float | None, priority: int) -> None:
    """Note how a task with this idempotency key is asked for: its rank, counted from when it is taken in."""
    rank = round((delay or 0.0) * 1000) - LEVEL * priority
    driver.execute("INSERT OR IGNORE INTO plan VALUES (?, ?)", (key, rank))


def wrongs(driver: sqlite3.Connection) -> Iterator[str]:
    """I16: nobody who has not begun is offered before one of a lower rank that waits."""
    for later, earlier in driver.execute("SELECT later, earlier FROM overtaken"):
        yield f"I16: {later} was offered before {earlier}, which has the lower rank"
