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
CREATE TEMP TABLE overtaken (later TEXT, earlier TEXT, at INTEGER);
CREATE TEMP TABLE most (tasks INTEGER);
CREATE TEMP TABLE crowded (task TEXT, taken INTEGER);
CREATE TEMP TRIGGER offered AFTER UPDATE OF state ON task
WHEN OLD.state = 'QUEUED' AND NEW.state IN ('OFFERED', 'RUNNING') BEGIN
    INSERT INTO overtaken SELECT NEW.id, w.id, NEW.updated
    FROM task w JOIN plan p ON p.name = w.idem JOIN plan n ON n.name = NEW.idem
    WHERE w.state = 'QUEUED' AND w.pause = 0 AND w.ready_at IS NULL AND w.attempt = 0 AND OLD.attempt = 0
    AND (w.deadline IS NULL OR w.deadline > NEW.updated) AND w.created + p.rank < NEW.created + n.rank;
    -- What one commit offers, it offers at once, whatever the order of its statements.
    DELETE FROM overtaken WHERE earlier = NEW.id AND at = NEW.updated;
    INSERT INTO crowded SELECT NEW.id, taken
    FROM (SELECT count(*) AS taken FROM task WHERE inc IS NOT NULL AND parked = 0), most WHERE taken > most.tasks;
END;
"""


def set_up(driver: sqlite3.Connection, limit: int | None) -> None:
    """Begin to watch; `limit`: tasks that the agent may have at once."""
    driver.executescript(_SET_UP)
    driver.execute("INSERT INTO most VALUES (?)", (limit,))


def planned(driver: sqlite3.Connection, key: str, delay: float | None, priority: int) -> None:
    """Note how a task with this idempotency key is asked for: its rank, counted from when it is taken in."""
    rank = round((delay or 0.0) * 1000) - LEVEL * priority
    driver.execute("INSERT OR IGNORE INTO plan VALUES (?, ?)", (key, rank))


def wrongs(driver: sqlite3.Connection) -> Iterator[str]:
    """I16: nobody who has not begun is offered before one of a lower rank that waits. I12: nobody over the limit."""
    for task, taken in driver.execute("SELECT task, taken FROM crowded"):
        yield f"I12: {task} was offered as number {taken}, over the limit of the agent"
    for later, earlier in driver.execute("SELECT later, earlier FROM overtaken"):
        yield f"I16: {later} was offered before {earlier}, which has the lower rank"
