"""A process that writes the ledger is killed in the middle of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.hub.store.store import Store

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger

_WRITER = """
import sys
from pathlib import Path
from blocks_worker.concurrency import Clock
from blocks_worker.hub.store.store import Store

store = Store(Path(sys.argv[1]), clock=Clock())
store.open()
number = 0
while True:
    futures = [store.write(lambda ledger, n=number + i: ledger.set_meta(f"k{n}", "x")) for i in range(7)]
    for future in futures:
        future.result()
        print(number, flush=True)
        number += 1
"""


def test_kill_between_commits_loses_nothing(tmp_path: Path) -> None:
    """[E1] Whatever was acknowledged before a kill -9 is there afterwards, and the database is sound."""
    file = tmp_path / "ledger.sqlite3"
    acknowledged = -1
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(file)], stdout=subprocess.PIPE, text=True, env=_environment()
        )
        assert process.stdout is not None
        for _ in range(40 + 11 * round_):
            acknowledged = max(acknowledged, int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")[:-1]
        process.stdout.close()
        process.wait(10)
        acknowledged = max([acknowledged, *map(int, rest)])
        store = Store(file, clock=Clock())
        store.open()
        keys = [f"k{number}" for number in range(acknowledged + 1)]
        found = store.read(partial(_values, keys=keys))
        store.close(Deadline(10))
        assert found == ["x"] * (acknowledged + 1)


def _values(ledger: Ledger, keys: list[str]) -> list[str | None]:
    return [ledger.meta(key) for key in keys]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
