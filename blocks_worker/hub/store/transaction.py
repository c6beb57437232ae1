"""One open transaction: how it begins and ends, which parts of it stand or fall, and what is said once it stands."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from blocks_worker.hub.store.group import Group, MismatchError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from sqlalchemy import Connection
    from typing_extensions import Self

T = TypeVar("T")


class Publication(NamedTuple):
    """One logical message for the bus, as JSON bytes; `ends_channel`: the last one of that task channel."""

    channel: str
    message: bytes
    billing_mode: str
    seq: int | None = None
    ends_channel: bool = False


class Transaction:
    """Be the open transaction of one thread."""

    def __init__(self, connection: Connection, driver: sqlite3.Connection) -> None:
        self._group = Group(connection, driver)
        self._driver = driver
        self.outbox: list[Publication] = []
        #: What is to be counted once the transaction stands.
        self.happened: list[str] = []
        #: What is to be written to the audit once the transaction stands.
        self.acts: list[tuple[str, dict[str, Any]]] = []
        #: What is put off until all sets have run, by a name that has it done once.
        self._put_off: dict[Hashable, Callable[[], None]] = {}
        #: What is believed once the transaction stands as a whole, by what it is about.
        self._stands: dict[Hashable, Callable[[], None] | None] = {}

    @property
    def connection(self) -> Connection:
        """The connection for cold statements, which are plain SQLAlchemy Core."""
        return self._group.connection

    @property
    def statements(self) -> int:
        """How many statements of frequent verbs were sent; one for many rows counts once."""
        return self._group.statements

    def begin(self) -> None:
        """Open the transaction as a writer."""
        self._driver.execute("BEGIN IMMEDIATE")

    def data_version(self) -> int:
        """Return a number that is another one once another connection, of whatever process, has committed."""
        (version,) = self._driver.execute("PRAGMA data_version").fetchone()
        return int(version)

    def commit(self) -> None:
        """Make it durable."""
        self._group.run_kept()
        self._driver.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo it all."""
        self.outbox.clear()
        self.happened.clear()
        self.acts.clear()
        self._put_off.clear()
        self._stands.clear()
        self._group.forget()
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def is_open(self) -> bool:
        """Tell whether the transaction still stands: some errors of the disk end it."""
        return self._driver.in_transaction

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what was done inside, and only that, when it raises; its messages are unsaid too, and nothing counts."""
        self._group.run_kept()
        said, happened, acts = len(self.outbox), len(self.happened), len(self.acts)
        keeps, self._group.keeps = self._group.keeps, False
        self._driver.execute("SAVEPOINT inner_work")
        try:
            yield
        except BaseException:
            del self.outbox[said:], self.happened[happened:], self.acts[acts:]
            self._stands.clear()
            self._group.forget()
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK TO inner_work")
                self._driver.execute("RELEASE inner_work")
            raise
        finally:
            self._group.keeps = keeps
        self._driver.execute("RELEASE inner_work")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have the writes of the sets inside run together; whatever is wrong with one of them raises."""
        self._group.keeps = True
        try:
            yield
            self._group.run_kept()
        finally:
            self._group.keeps = False

    def prefetch(self, tasks: Iterable[str]) -> None:
        """Learn at once how these tasks stand."""
        self._group.prefetch(tasks)

    def one_of_many(self, work: Callable[[Self], T]) -> T:
        """Return what a set of writes returns; what it keeps is undone when it raises.

        Raises:
            MismatchError: it had written something that is not kept.
        """
        mark = self._group.mark()
        said, happened, acts = len(self.outbox), len(self.happened), len(self.acts)
        try:
            return work(self)
        except MismatchError:
            raise
        except Exception:
            self._group.undo(mark)
            self._stands.clear()
            del self.outbox[said:], self.happened[happened:], self.acts[acts:]
            raise

    def put_off(self, name: Hashable, act: Callable[[], None]) -> None:
        """Have something done once all sets of this transaction have run; once for a name."""
        self._put_off.setdefault(name, act)

    def take_put_off(self) -> list[Callable[[], None]]:
        """Return what was put off, in its order."""
        acts, self._put_off = list(self._put_off.values()), {}
        return acts

    def when_it_stands(self, name: Hashable, act: Callable[[], None] | None) -> None:
        """Have a hint noted once the transaction is committed, in place of the last one of this name; None: none.

        Where a part of the transaction is undone, all of them are dropped.
        """
        self._stands[name] = act

    def take_stands(self) -> list[Callable[[], None]]:
        """Return the hints that are to be noted, now that it stands."""
        acts, self._stands = [act for act in self._stands.values() if act is not None], {}
        return acts

    def remembered(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what was found before in this transaction under the key, unless something rare was written since."""
        return self._group.remembered(key, find)

    def counted(self, what: str, *, happened: bool = True) -> bool:
        """Count what happened, if it did and once it is committed; tell whether it did."""
        if happened:
            self.happened.append(what)
        return happened

    def noted(self, act: str, **fields: Any) -> None:
        """Have the audit know of an act once it is committed; fields that are None are left out."""
        self.acts.append((act, fields))
