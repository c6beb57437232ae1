"""Which version a ledger's tables are in, read and written without alembic, in alembic's own table.

A version is the four digits in the name of the script that leads to it. This is the only mark: a ledger without
one is new, somebody else's, or older than the numbering.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError
from blocks_worker.hub.program import release

if TYPE_CHECKING:
    import sqlite3

SCRIPTS = Path(__file__).parent / "migrations" / "versions"
#: The tables from which the numbering starts.
FIRST = "0001"
#: What `find` returns for a ledger that is older than the numbering.
UNNUMBERED = "unnumbered"
#: The mark of those, in PRAGMA user_version.
_OLD_MARK = 1
#: Where the ledger keeps which release brought it to its version.
_RELEASE = "release"

#: As alembic makes it.
_TABLE = (
    "CREATE TABLE alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def known(scripts: Path) -> list[str]:
    """Return the versions that the scripts lead to, oldest first."""
    return sorted(path.name[1:5] for path in scripts.glob("v[0-9][0-9][0-9][0-9]_*.py"))


def find(driver: sqlite3.Connection, path: Path | None, versions: list[str]) -> str | None:
    """Return the version of the tables; None when there are none.

    Raises:
        StoreError: the tables are those of a newer program, or of another one.
    """
    (marked,) = driver.execute("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    rows = driver.execute("SELECT version_num FROM alembic_version").fetchall() if marked else []
    if not rows:
        return _unmarked(driver, path)
    version = str(rows[0][0])
    if len(rows) > 1 or version not in versions:
        raise StoreError(_unknown(driver, path, version, versions[-1]), code="version")
    return version


def mark(driver: sqlite3.Connection, version: str) -> None:
    """Note the version of tables that were not made by alembic."""
    driver.execute(_TABLE)
    driver.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    driver.execute("PRAGMA user_version = 0")


def note_release(driver: sqlite3.Connection) -> None:
    """Note which release brought the ledger to its version, for an older one to name."""
    driver.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_RELEASE, release()))


def _unmarked(driver: sqlite3.Connection, path: Path | None) -> str | None:
    (things,) = driver.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (old,) = driver.execute("PRAGMA user_version").fetchone()
    if not things and not old:
        return None
    if things and old == _OLD_MARK:
        return UNNUMBERED
    raise StoreError(f"{path} is a database, but no ledger of blocks_worker: move it away", code="foreign")


def _unknown(driver: sqlite3.Connection, path: Path | None, version: str, newest: str) -> str:
    (kept,) = driver.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()
    row = driver.execute("SELECT value FROM meta WHERE key = ?", (_RELEASE,)).fetchone() if kept else None
    wrote = f"blocks_worker {row[0]}" if row else "the blocks_worker that wrote it"
    return (
        f"{path} has version {version}, this program ({release()}) knows {newest} at most: "
        f"use {wrote} or a newer one, or restore an older backup"
    )
