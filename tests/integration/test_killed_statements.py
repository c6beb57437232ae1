"""A hub is killed before each single statement of what it does: it was done, or it was not, and is done once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

#: The tables of the last program that numbered none.
FIRST_TABLES = Path(__file__).parents[1] / "unit" / "hub" / "store" / "first_tables.sql"
#: Runs `work` in a forked process that is killed before its statement 1, 2, 3 … until one comes to its end.
_KILLS = """
import json, os, shutil, signal, sqlite3, sys
from pathlib import Path

left = 0
real = sqlite3.dbapi2.connect

def connect(*args, **options):
    connection = real(*args, **options)
    connection.set_trace_callback(heard)
    return connection

def heard(_statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def killed_at_each(work, prepare, look, step=1):
    global left
    number = 1 - step
    while True:
        number += step
        prepare()
        child = os.fork()
        if child == 0:
            left = number
            work()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
        print(json.dumps(look()), flush=True)
        if status == 0:
            return

def dump(path):
    connection = real(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines
"""

_MIGRATION = """
import alembic.command
from blocks_worker.hub.store.database import open_database

old, path = Path(sys.argv[1]), Path(sys.argv[2])

def prepare():
    for each in path.parent.glob(path.name + "*"):
        each.unlink()
    shutil.copy(old, path)

def work():
    sqlite3.dbapi2.connect = connect
    open_database(path).close()

def look():
    left_behind = dump(path)
    open_database(path).close()
    return [hash(tuple(left_behind)), hash(tuple(dump(path)))]

prepare()
print(json.dumps(hash(tuple(dump(path)))))
killed_at_each(work, prepare, look, step=int(sys.argv[3]))
"""

_REPORT = """
from ledger_world import World, done
from blocks_worker.hub.store.database import driver_of
from blocks_worker.protocol.tasks import RetryPolicy

path, kept = Path(sys.argv[1]), Path(sys.argv[2])
world = World(kept)
world.add_agent()
holder = world.join()
lease = world.run(holder, retry_policy=RetryPolicy(max_attempts=2, initial_delay_sec=0))
epoch = world.row().epoch
world.__exit__()

def report():
    failed = done(1, state="failed", error_code="handler_error")
    return world.report(holder, lease, epoch=epoch, events=(1,), outcome=failed).status

def prepare():
    for each in path.parent.glob(path.name + "*"):
        each.unlink()
    shutil.copy(kept, path)
    world._path = path

def work():
    world.boot()
    driver_of(world.store._database.writer).set_trace_callback(heard)
    report()

def look():
    world.boot()
    before = world.row()
    replay = report()
    once_more = report()
    world.sweep(1)
    second = world.lease(holder)
    end = world.report(holder, second, outcome=done(digest="e" * 64)).status
    row, types = world.row(), [event.get("status") or event["type"] for event in world.events()]
    world.__exit__()
    return [before.state, before.retries, replay, once_more, end, row.state, row.attempt, types]

killed_at_each(work, prepare, look)
"""


def told(program: str, *arguments: object) -> list[Any]:
    """Run a program that kills its children; return what it printed."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-W", "ignore", "-c", _KILLS + program, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=110)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_migration_killed_at_each_statement_is_all_or_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From the oldest tables to those of today: the ledger is as before or done, and the next start does it. [E12]"""
    old = tmp_path / "old"
    (tmp_path / "work").mkdir()
    with closing(sqlite3.connect(old)) as driver:
        driver.executescript(FIRST_TABLES.read_text())
        driver.execute("INSERT INTO meta (key, value) VALUES ('a', '1')")
        driver.commit()
    step = 1 if request.config.getoption("--long") else 23
    before, *looks = told(_MIGRATION, old, tmp_path / "work" / "hub.sqlite3", step)
    final = looks[-1][0]

    assert len(looks) * step > 150, "all statements of ten scripts"
    assert {left_behind for left_behind, _ in looks} == {before, final}
    assert {after for _, after in looks} == {final}


def test_an_outcome_and_the_run_that_follows_it_are_one(tmp_path: Path) -> None:
    """Killed at each statement of a failure that is to be run again: both or neither; attempts are exact. [J21] [E1]"""
    looks = told(_REPORT, tmp_path / "work", tmp_path / "kept")
    states = {(state, retries) for state, retries, *_ in looks}

    assert len(looks) > 5
    assert states == {("RUNNING", 1), ("QUEUED", 0)}
    for _, _, *rest in looks:
        assert rest == [200, 200, 200, "COMPLETED", 2, ["progress", "queued", "restarted", "terminal"]]
