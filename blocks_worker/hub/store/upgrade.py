"""Bring an older ledger to the tables of this program: a copy first, then all steps in one transaction, or none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError
from blocks_worker.hub.store import backup, revisions, shape
from blocks_worker.hub.store.database import Database, driver_of
from blocks_worker.hub.store.migrations import migrate

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_logger = logging.getLogger(__name__)

#: Words of causes that lie outside the program.
_OUTSIDE = ("disk", "readonly", "unable to open", "locked")


def bring_up(database: Database, path: Path, *, at: str, scripts: Path) -> None:
    """Change the tables from version `at` to the newest one.

    Raises:
        StoreError: that failed, and the ledger is as it was; or its tables are of no version.
    """
    to = revisions.known(scripts)[-1]
    start = at
    if at == revisions.UNNUMBERED:
        _check_unnumbered(driver_of(database.writer), path)
        start = revisions.FIRST
    copy: Path | None = None
    try:
        with database.writer.begin():
            driver = driver_of(database.writer)
            driver.execute("BEGIN IMMEDIATE")
            if at == revisions.UNNUMBERED:
                revisions.mark(driver, start)
            if start != to:
                # The other connection reads what was there before.
                copy = backup.keep_copy(driver_of(database.reader), path, start)
                migrate(database.writer, scripts, to)
            revisions.note_release(driver)
    except Exception as error:
        raise StoreError(_failed(path, error, start=start, to=to), code="migration") from error
    if copy is not None:
        backup.drop_others(path, copy)
        _logger.info("ledger_upgraded", extra={"was": start, "now": to, "backup": str(copy)})


def _failed(path: Path, error: Exception, *, start: str, to: str) -> str:
    cause = getattr(error, "orig", None) or error
    said = " ".join(str(cause).split()) or type(cause).__name__
    outside = isinstance(cause, OSError) or any(word in said for word in _OUTSIDE)
    cure = "make room on its disk or mend its rights, and start again" if outside else "tell who wrote this program"
    return (
        f"{path} could not be brought from version {start} to {to} ({said}) and is as it was: "
        f"{cure}, or use the blocks_worker that wrote it"
    )


def _check_unnumbered(driver: sqlite3.Connection, path: Path) -> None:
    """Refuse tables that are not those from which the numbering starts: no release ever made them."""
    plain = Database(None)
    try:
        with plain.writer.begin():
            migrate(plain.writer, revisions.SCRIPTS, revisions.FIRST)
            driver_of(plain.writer).execute("DROP TABLE alembic_version")
            wanted = shape.things(driver_of(plain.writer))
    finally:
        plain.close()
    found = shape.things(driver)
    shape.refuse(path, lacks=wanted - found, besides=found - wanted)
