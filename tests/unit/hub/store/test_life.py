"""Two hubs on one ledger, which the lock of the folder should have prevented."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import StoreError
from blocks_worker.hub.store.life import Life
from blocks_worker.hub.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def begun(folder: Path, name: str) -> Iterator[Store]:
    """Give the store of a hub that has begun on the ledger."""
    life = Life(name)
    store = Store(folder / "ledger", clock=Clock(), on_foreign=life.check)
    store.open()
    store.write(life.begin).result(10)
    try:
        yield store
    finally:
        store.close(Deadline(10))


def note(store: Store, value: str) -> None:
    """Write something and wait for it."""
    store.write(lambda ledger: ledger.set_meta("noted", value)).result(10)


def test_nothing_more_is_written_to_a_ledger_that_was_taken(tmp_path: Path) -> None:
    """The very next write of the older hub is refused, and every later one; the younger hub writes on. [E7]"""
    with begun(tmp_path, "older") as older:
        note(older, "by the older")
        with begun(tmp_path, "younger") as younger:
            for _ in range(2):
                with pytest.raises(StoreError, match="another hub has begun") as refused:
                    note(older, "too late")
                assert refused.value.code == "taken"
            assert younger.read(lambda ledger: ledger.meta("noted")) == "by the older"

            note(younger, "by the younger")

            assert older.read(lambda ledger: ledger.meta("noted")) == "by the younger"
            assert getattr(older.fault(), "code", None) == "taken"


def test_others_may_write_who_are_no_hub(tmp_path: Path) -> None:
    """What a command writes into the ledger of a running hub takes it from nobody. [E7]"""
    with begun(tmp_path, "only") as store:
        other = sqlite3.connect(tmp_path / "ledger", isolation_level=None)
        other.execute("INSERT INTO meta VALUES ('noted', 'by a command')")
        other.close()

        note(store, "by the hub")

        assert store.read(lambda ledger: ledger.meta("noted")) == "by the hub"
