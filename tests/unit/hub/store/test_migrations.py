"""The scripts against the tables of this program: they lead to the same ledger."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from blocks_worker.hub.store import revisions
from blocks_worker.hub.store.database import Database, driver_of, open_database
from blocks_worker.hub.store.migrations import migrate
from blocks_worker.hub.store.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_TABLES = Path(__file__).parent / "first_tables.sql"
NEWEST = revisions.known(revisions.SCRIPTS)[-1]


@pytest.fixture
def database() -> Iterator[Database]:
    """Be an empty database in memory."""
    database = Database(None)
    yield database
    database.close()


def lead(database: Database, to: str) -> sqlite3.Connection:
    """Run the scripts on the database and return its driver's connection."""
    with database.writer.begin():
        migrate(database.writer, revisions.SCRIPTS, to)
    return driver_of(database.writer)


def tables(driver: sqlite3.Connection) -> dict[str, object]:
    """Return what SQLite knows of each table, whatever the order of its columns."""
    found: dict[str, object] = {}
    for name, sql in driver.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = {row[1:] for row in driver.execute(f"PRAGMA table_xinfo({name})")}
        found[name] = (words(sql).rpartition(")")[2], columns, indexes(driver, name))
    return found


def indexes(driver: sqlite3.Connection, table: str) -> set[object]:
    """Return what SQLite knows of the indexes of a table."""
    found: set[object] = set()
    for _, name, unique, origin, partial in driver.execute(f"PRAGMA index_list({table})").fetchall():
        columns = tuple(row[2:] for row in driver.execute(f"PRAGMA index_xinfo({name})") if row[5])
        row = driver.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        found.add((name, unique, origin, partial, columns, words(row[0] or "") if row else ""))
    return found


def words(sql: str) -> str:
    """Return the text of a statement with one space where there is space."""
    return re.sub(r"\s+", " ", sql.replace('"', "")).strip()


def test_the_scripts_lead_to_the_tables_of_this_program(database: Database) -> None:
    """[M1] Nobody changes a table without a script: alembic finds no difference between the chain and `schema.py`."""
    lead(database, "head")
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(database.writer, opts=options)

    assert compare_metadata(context, metadata) == []


def test_an_upgraded_ledger_is_like_a_new_one(database: Database) -> None:
    """[M1] What alembic does not compare is the same too: keys, partial indexes, tables without row ids."""
    new = open_database(None)
    made = tables(driver_of(new.writer))
    new.close()

    assert tables(lead(database, "head")) == made


def test_the_first_script_makes_the_first_tables(database: Database) -> None:
    """[M1] Where the numbering starts never changes: it is what the last program without it made."""
    driver = lead(database, revisions.FIRST)
    driver.execute("DROP TABLE alembic_version")
    before = sqlite3.connect(":memory:")
    before.executescript(FIRST_TABLES.read_text())
    known = tables(before)
    before.close()

    assert tables(driver) == known


def test_the_scripts_are_one_chain() -> None:
    """[M1] Each script follows the one before it, and its file begins with its number."""
    chain = list(ScriptDirectory(revisions.SCRIPTS.parent, version_locations=[revisions.SCRIPTS]).walk_revisions())
    chain.reverse()
    files = sorted(path.name for path in revisions.SCRIPTS.glob("v*.py"))

    assert [Path(script.path).name for script in chain] == files
    assert [script.revision for script in chain] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert revisions.known(revisions.SCRIPTS) == [script.revision for script in chain]
    assert [script.down_revision for script in chain] == [None, *(script.revision for script in chain[:-1])]


def test_the_numbering_starts_with_the_mark_that_alembic_knows(database: Database) -> None:
    """A new ledger is made without alembic, and alembic reads its version."""
    lead(database, "head")
    new = open_database(None)
    with new.writer.begin():
        version = MigrationContext.configure(new.writer).get_current_revision()
    query = "SELECT sql FROM sqlite_master WHERE name = 'alembic_version'"
    ours, theirs = (driver_of(one.writer).execute(query).fetchone()[0] for one in (new, database))
    new.close()

    assert version == NEWEST
    assert words(ours).replace(" ", "") == words(theirs).replace(" ", "")
