"""Open the database of a ledger: its settings, its version, and whether it is sound.

One connection writes and keeps for life; a file has a second one that reads beside it.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from blocks_worker.errors import StoreError
from blocks_worker.hub.store import revisions, shape
from blocks_worker.hub.store.schema import creation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

#: Statements that the driver keeps compiled.
_CACHED = 256

#: Bytes of the write-ahead log that stay on the disk once a long read that kept it growing is over.
LOG_KEPT = 64 * 1024 * 1024

_SETTINGS = ("busy_timeout=5000", "foreign_keys=OFF", f"journal_size_limit={LOG_KEPT}")


class Database:
    """Own the connections to one database; `path` None is one in memory, which has one connection.

    `synchronous`: ``full`` or ``normal``. With ``normal`` a loss of power may take back the last commits; a process
    that dies takes none.
    """

    def __init__(self, path: Path | None, synchronous: str = "full") -> None:
        self.path = path
        self._settings = (*_SETTINGS, f"synchronous={synchronous}")
        self._engine = _engine(path)
        self.writer: Connection = self._connect()
        #: The driver's connection of the writer, which keeps it for life.
        self.driver = driver_of(self.writer)
        self.reader: Connection = self.writer if path is None else self._connect()

    @property
    def is_shared(self) -> bool:
        """Whether readers and the writer use one connection."""
        return self.reader is self.writer

    @contextmanager
    def one_more(self) -> Iterator[Connection]:
        """Give another connection for one long read."""
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections."""
        if not self.is_shared:
            self.reader.close()
        self.writer.close()
        self._engine.dispose()

    def prepare(self, scripts: Path) -> None:
        """Check that the database is sound and ours; make its tables when it is new, bring them up when they are old.

        Raises:
            StoreError: it is neither, or that failed; nothing was changed.
        """
        writer = self.driver
        (sound,) = writer.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise StoreError(f"{self.path} is damaged ({sound}): restore it from a backup", code="damaged")
        versions = revisions.known(scripts)
        version = revisions.find(writer, self.path, versions)
        if self.path is not None and version not in (None, versions[-1]):
            from blocks_worker.hub.store.upgrade import bring_up

            bring_up(self, self.path, at=version, scripts=scripts)
        if version is not None:
            shape.check_complete(writer, self.path)
        # Not before it is known to be ours: this is written into the file.
        writer.execute("PRAGMA journal_mode=WAL").fetchall()
        if version is None:
            self._create(writer, versions[-1])

    def _create(self, writer: sqlite3.Connection, version: str) -> None:
        with self.writer.begin():
            writer.execute("BEGIN IMMEDIATE")
            for statement in creation():
                writer.execute(statement)
            revisions.mark(writer, version)
            revisions.note_release(writer)

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        for setting in self._settings:
            driver_of(connection).execute(f"PRAGMA {setting}").fetchall()
        return connection


def open_database(path: Path | None, scripts: Path = revisions.SCRIPTS, *, synchronous: str = "full") -> Database:
    """Return the open database, made when there is none, and in the newest version that the scripts lead to.

    Raises:
        StoreError: a sentence that says what is wrong with it.
    """
    with opening_told(path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        database = Database(path, synchronous)
        try:
            database.prepare(scripts)
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def opening_told(path: Path | None) -> Iterator[None]:
    """Have what stops the opening of a ledger say which, why, and what to do.

    Raises:
        StoreError: it could not be opened.
    """
    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(
            f"the ledger {path} can not be opened ({cause}): mend its rights or disk, or restore it from a backup",
            code="open",
        ) from error


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection, on which the hot statements run as text."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _engine(path: Path | None) -> Engine:
    # The driver begins nothing by itself: the store says BEGIN IMMEDIATE and COMMIT. Reads may come from any
    # thread, one at a time.
    arguments = {"isolation_level": None, "check_same_thread": False, "cached_statements": _CACHED}
    url = URL.create("sqlite", database=":memory:" if path is None else str(path))
    return create_engine(url, connect_args=arguments, poolclass=NullPool)
