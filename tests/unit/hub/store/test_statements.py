from __future__ import annotations

import re
import sqlite3

import pytest

from blocks_worker.hub.store import statements
from blocks_worker.hub.store.database import driver_of, open_database

#: A full look at one of these would grow with the history; the few instances may be looked through.
GROWING = re.compile(r"SCAN (task|event|task_input|offer|step|stub)\b")


@pytest.mark.parametrize("name", sorted(statements.HOT))
def test_no_hot_statement_scans(name: str) -> None:
    """Every hot statement finds its rows by a key or an index, however many there are."""
    text = statements.HOT[name]
    database = open_database(None)
    try:
        plan = driver_of(database.writer).execute(f"EXPLAIN QUERY PLAN {text}", _values(text)).fetchall()
    finally:
        database.close()

    assert not [step[-1] for step in plan if GROWING.search(step[-1])]


@pytest.mark.parametrize("name", sorted(statements.HOT))
def test_ordered_statements_sort_nothing(name: str) -> None:
    """What is asked for in order comes from an index in that order, so a limit bounds the work."""
    text = statements.HOT[name]
    database = open_database(None)
    try:
        plan = driver_of(database.writer).execute(f"EXPLAIN QUERY PLAN {text}", _values(text)).fetchall()
    finally:
        database.close()

    assert name == "CANDIDATES" or not [step[-1] for step in plan if "TEMP B-TREE" in step[-1]]


def _values(text: str) -> dict[str, int] | list[int]:
    """Return some value for each that the statement takes, by name or by place."""
    return [1] * text.count("?") or dict.fromkeys(re.findall(r":(\w+)", text), 1)


def test_a_statement_takes_what_it_names() -> None:
    """A parameter that is not given is an error, never an empty value."""
    database = open_database(None)
    try:
        with pytest.raises(sqlite3.ProgrammingError):
            driver_of(database.writer).execute(statements.CLAIM, {"key": "t"})
    finally:
        database.close()
