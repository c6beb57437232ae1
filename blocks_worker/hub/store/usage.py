"""What an owner has of a hub, as the ledger knows it: tasks that have not ended, bytes of inputs that are kept.

The bytes are one number for each owner, changed in the transaction that stores or deletes an input: to add
them up would read all that is kept.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, func, literal_column, null, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from blocks_worker.hub.store.schema import task, task_input, usage
from blocks_worker.protocol.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.sql.expression import ClauseElement

    from blocks_worker.hub.store.group import Group

_DIALECT = sqlite.dialect(paramstyle="named")


def _text(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECT))


_NEW = insert(usage).values(owner=bindparam("o"), input_bytes=bindparam("size"))
_ADD = _text(
    _NEW.on_conflict_do_update(
        index_elements=[usage.c.owner],
        set_={"input_bytes": func.max(literal_column("0"), usage.c.input_bytes + _NEW.excluded.input_bytes)},
    )
)
_USED = _text(select(usage.c.input_bytes).where(usage.c.owner == bindparam("o")))
_SIZE = _text(select(func.length(task_input.c.start)).where(task_input.c.task == bindparam("key")))
#: What waits and what is somebody's: each has an index of its own, which holds no ended task.
_WAITING = and_(task.c.state == literal_column(f"'{State.QUEUED.value}'"), task.c.owner == bindparam("o"))
_SOMEBODYS = and_(task.c.inc.is_not(null()), task.c.owner == bindparam("o"))
_COUNTS = [
    _text(
        select(func.count()).select_from(
            select(task.c.id).where(which).limit(bindparam("most")).offset(literal_column("0")).subquery()
        )
    )
    for which in (_WAITING, _SOMEBODYS)
]


class Usage:
    """Know what owners have."""

    _group: Group

    def count_open(self, owner: str, most: int) -> int:
        """Count the owner's tasks that have not ended, up to so many: dear when others have many."""
        count = 0
        for text in _COUNTS:
            count += int(self._group.execute(text, {"o": owner, "most": most - count}).fetchone()[0])
        return count

    def room_used(self, owner: str) -> int:
        """Return how many bytes of inputs are kept for the owner."""
        row = self._group.execute(_USED, {"o": owner}).fetchone()
        return 0 if row is None else int(row[0])

    def use_room(self, owner: str, size: int) -> None:
        """Note that so many bytes more are kept for the owner, or fewer."""
        self._group.keep(_ADD, {"o": owner, "size": size})

    def room_of(self, tasks: Iterable[tuple[str, str]]) -> dict[str, int]:
        """Return how many bytes the inputs of these tasks have, by owner; each is given with its owner."""
        used = Counter[str]()
        for key, owner in tasks:
            row = self._group.look(_SIZE, {"key": key}).fetchone()
            used[owner] += 0 if row is None else int(row[0])
        return dict(used)
