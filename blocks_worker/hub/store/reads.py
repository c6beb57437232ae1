"""The reads of a store: on the thread that asks, one at a time, each at one moment of the ledger."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from blocks_worker.errors import StoreError
from blocks_worker.hub.store.database import driver_of
from blocks_worker.hub.store.faults import ours
from blocks_worker.hub.store.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from blocks_worker.hub.store.database import Database
    from blocks_worker.hub.store.numbering import Numbering

T = TypeVar("T")


class Reads:
    """Read beside the writer, as long as there is a database."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self.database: Database | None = None
        #: Held while the reading connection is in use; in memory it is the writer's too.
        self.lock = threading.Lock()

    def read(self, work: Callable[[Ledger], T]) -> T:
        """Run a short read."""
        with self.lock:
            return self._look(self._opened().reader, work)

    def survey(self, work: Callable[[Ledger], T]) -> T:
        """Run a long read on a connection of its own."""
        with self.lock:
            database = self._opened()
            if database.is_shared:
                return self._look(database.reader, work)
        with database.one_more() as connection:
            return self._look(connection, work)

    def close(self) -> None:
        """Close the database, once nobody reads."""
        with self.lock:
            database, self.database = self._opened(), None
            database.close()

    def _opened(self) -> Database:
        if self.database is None:
            raise StoreError("the store is closed", code="closed")
        return self.database

    def _look(self, connection: Connection, work: Callable[[Ledger], T]) -> T:
        driver = driver_of(connection)
        try:
            driver.execute("BEGIN")
            return work(Ledger(connection, driver, self._numbering))
        except (sqlite3.Error, DBAPIError) as error:
            raise ours(error, "read_failed") from error
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
