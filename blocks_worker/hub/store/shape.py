"""What a ledger is made of, by name: tables, columns, indexes; and how a difference is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError
from blocks_worker.hub.store.schema import metadata

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

#: How many of the differences are named.
_NAMED = 3

_THINGS = """
    SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL
    UNION ALL SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
    UNION ALL SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c
              WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'
"""


def things(driver: sqlite3.Connection) -> set[str]:
    """Return the names of what the database is made of; a column's begins with its table's."""
    return {name for (name,) in driver.execute(_THINGS)}


def check_complete(driver: sqlite3.Connection, path: Path | None) -> None:
    """Refuse a ledger that lacks something of what its version has.

    Raises:
        StoreError: a sentence that names it.
    """
    wanted = {f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns}
    wanted |= {str(index.name) for table in metadata.tables.values() for index in table.indexes} | {*metadata.tables}
    refuse(path, lacks=wanted - things(driver), besides=set())


def refuse(path: Path | None, *, lacks: set[str], besides: set[str]) -> None:
    """Refuse a ledger that differs from every version.

    Raises:
        StoreError: there is a difference.
    """
    wrong = [*_told("lacks", lacks), *_told("has besides", besides)]
    if wrong:
        raise StoreError(
            f"{path} was made by a blocks_worker that was never released (it {' and '.join(wrong)}): "
            "move it away to begin with an empty ledger, or use the program that wrote it",
            code="unreleased",
        )


def _told(word: str, names: set[str]) -> list[str]:
    """Return what is told of a difference; a table stands for its columns."""
    told = sorted(name for name in names if "." not in name or name.partition(".")[0] not in names)
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return [f"{word} {', '.join(told[:_NAMED])}{more}"] if told else []
