"""The statements of one transaction: what is rare runs at once, what is frequent is kept back and runs together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from blocks_worker.hub.store import statements as sql
from blocks_worker.hub.store.records import TaskRecord
from blocks_worker.protocol.codec import encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Iterable

    from sqlalchemy import Connection

T = TypeVar("T")


class MismatchError(Exception):
    """What was kept back can not be run together: it is to be done again, one set after the other."""


class Group:
    """Run the statements of an open transaction, and know the rows of its tasks.

    A write that is *kept* is taken for done: the row is known as it will be. All that are kept run, each text with all
    its values at once, before a statement that could miss them. A row that was not as expected shows in the count of
    what changed, and raises.
    """

    def __init__(self, connection: Connection, driver: sqlite3.Connection) -> None:
        self._connection = connection
        self._driver = driver
        #: Statements that were sent: one for many values counts once, cold ones do not.
        self.statements = 0
        #: Whether writes may be kept back.
        self.keeps = False
        self._kept: list[tuple[str, Any]] = []
        #: In which order the texts are run, and how far a task's writes have come in it: those of one task keep theirs.
        self._order: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._rows: dict[str, TaskRecord | None] = {}
        #: The tasks that the transaction is about, and what is known of them together once somebody asks.
        self._about: dict[str, None] = {}
        self._parents: set[str] | None = None
        self._new_parents: set[str] = set()
        self._purged: set[str] | None = None
        self._memory: dict[Hashable, Any] = {}
        self._undo: list[tuple[str, TaskRecord | None]] = []
        self._writes = 0

    # -------------------------------------------------------------------------------------------- statements
    @property
    def connection(self) -> Connection:
        """The connection for cold statements, which may change anything."""
        self.run_kept()
        self._changed()
        return self._connection

    def execute(self, text: str, values: Any) -> sqlite3.Cursor:
        """Run a statement now, behind all that are kept."""
        self.run_kept()
        if not text.startswith("SELECT"):
            self._changed()
        return self._sent(text, values)

    def executemany(self, text: str, values: Iterable[Any]) -> None:
        """Run a write for many values now."""
        self.run_kept()
        self._changed()
        self._sent_many(text, values)

    def look(self, text: str, values: Any) -> sqlite3.Cursor:
        """Run a read to which nothing that is kept matters."""
        return self._sent(text, values)

    def keep(self, text: str, values: Any, key: str | None = None) -> None:
        """Have a write run later, behind all others of the task with this key; or now, where none is kept."""
        if not self.keeps:
            self.execute(text, values)
            return
        place = self._order.setdefault(text, len(self._order))
        if key is not None:
            if place < self._last.get(key, 0):
                self.run_kept()
                place = self._order.setdefault(text, 0)
            self._last[key] = place
        self._kept.append((text, values))

    def turn(self, text: str, row: TaskRecord, values: dict[str, Any], after: TaskRecord) -> bool:
        """Make a turn of a task, after which it is known as `after`; tell whether the row was as expected."""
        if self.keeps and self._rows.get(row.id) is row:
            self.keep(text, values, row.id)
            self._learn(after)
            return True
        return self.execute(text, values).rowcount == 1

    def run_kept(self) -> None:
        """Run what is kept.

        Raises:
            MismatchError: a row was not as expected.
        """
        if not self._kept:
            return
        together: dict[str, list[Any]] = {}
        for text, values in self._kept:
            together.setdefault(text, []).append(values)
        texts = sorted(together, key=self._order.__getitem__)
        self._kept.clear()
        self._order.clear()
        self._last.clear()
        self._writes += 1
        for text in texts:
            wanted = together[text]
            if self._sent_many(text, wanted).rowcount != len(wanted):
                raise MismatchError(text)

    # -------------------------------------------------------------------------------------------- one set of several
    def mark(self) -> tuple[int, int]:
        """Begin a set of writes."""
        self._undo.clear()
        return len(self._kept), self._writes

    def undo(self, mark: tuple[int, int]) -> None:
        """Drop what was kept since the mark.

        Raises:
            MismatchError: something was run since then.
        """
        kept, writes = mark
        if writes != self._writes:
            raise MismatchError("a set that failed had written already")
        del self._kept[kept:]
        for key, row in reversed(self._undo):
            self._rows[key] = row

    def forget(self) -> None:
        """Know no row any more, and keep nothing: the transaction, or a part of it, was undone."""
        self._kept.clear()
        self._order.clear()
        self._last.clear()
        self._changed()

    # -------------------------------------------------------------------------------------------- what is known
    def task(self, key: str) -> TaskRecord | None:
        """Return a task as it is behind all writes."""
        if key in self._rows:
            return self._rows[key]
        found = self._sent(sql.TASK, {"key": key}).fetchone()
        row = self._rows[key] = None if found is None else TaskRecord._make(found)
        return row

    def tasks(self, text: str, values: Any) -> list[TaskRecord]:
        """Return the tasks that a statement finds."""
        found = [TaskRecord._make(row) for row in self.execute(text, values).fetchall()]
        for row in found:
            self._rows[row.id] = row
        return found

    def prefetch(self, keys: Iterable[str]) -> None:
        """Learn at once how these tasks stand, which the transaction is about."""
        self._about = dict.fromkeys(keys)
        self._rows.update(self._about)
        for found in self._of_all(sql.TASKS):
            row = TaskRecord._make(found)
            self._rows[row.id] = row

    def insert(self, text: str, row: TaskRecord) -> None:
        """Take in a new task."""
        self.keep(text, row, row.id)
        self._learn(row)
        if row.parent is not None:
            self._new_parents.add(row.parent)

    def is_childless(self, key: str) -> bool:
        """Tell whether it is known that nothing goes on for this task."""
        if key not in self._about:
            return False
        if self._parents is None:
            self._parents = {parent for (parent,) in self._of_all(sql.PARENTS)}
        # A child that ended in what is kept may be among them: that costs a look, no more.
        return key not in self._parents and key not in self._new_parents

    def was_never_purged(self, key: str) -> bool:
        """Tell whether it is known that no task with this id was purged."""
        if key not in self._about:
            return False
        if self._purged is None:
            self._purged = {found for (found,) in self._of_all(sql.STUBS)}
        return key not in self._purged

    def remembered(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what was found before under the key, as long as nothing was changed but tasks and events."""
        if key not in self._memory:
            self._memory[key] = find()
        found: T = self._memory[key]
        return found

    # -------------------------------------------------------------------------------------------- inside
    def _learn(self, row: TaskRecord) -> None:
        self._undo.append((row.id, self._rows.get(row.id)))
        self._rows[row.id] = row

    def _changed(self) -> None:
        """Forget what a write may have changed that is not known by its rows."""
        self._writes += 1
        self._rows.clear()
        self._parents = self._purged = None
        self._memory.clear()

    def _of_all(self, text: str) -> list[Any]:
        return self._sent(text, {"keys": encode(list(self._about)).decode()}).fetchall() if self._about else []

    def _sent(self, text: str, values: Any) -> sqlite3.Cursor:
        self.statements += 1
        return self._driver.execute(text, values)

    def _sent_many(self, text: str, values: Iterable[Any]) -> sqlite3.Cursor:
        self.statements += 1
        return self._driver.executemany(text, values)
