"""The ledger over time and beside others: a lock that somebody else has, reads that take long, tasks without end."""

from __future__ import annotations

import itertools
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest
from ledger_world import World, done
from support import wait_until
from support_hub import running_hub

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.hub.purges import STUB_LIFE_MS
from blocks_worker.hub.store.database import LOG_KEPT
from blocks_worker.hub.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger

_HOLDER = """
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
ledger.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


def test_another_programs_lock_is_waited_for_and_told(tmp_path: Path) -> None:
    """While it lasts reads go on and writers get 503 after a bounded wait, never 500; then all is as before. [E5]"""
    with running_hub(tmp_path) as hub:
        instance, consumer = hub.connect()["accessToken"], hub.consumer()["accessToken"]
        kept = hub.submit(consumer)
        command = [sys.executable, "-c", _HOLDER, str(tmp_path / DATABASE)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == "held\n"
            with ThreadPoolExecutor(2) as threads:
                submit = threads.submit(hub.ask, "POST", "/api/v1/tasks", {"agentName": "echo"}, bearer=consumer)
                beat = threads.submit(hub.ask, "POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
                read = hub.ask("GET", f"/api/v1/tasks/{kept}", bearer=consumer)
                assert (read.status, submit.done(), beat.done()) == (200, False, False)
                assert {submit.result(30).status, beat.result(30).status} == {503}
            other.stdin.write("\n")
            other.stdin.flush()
            other.wait(10)

        assert hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).status == 200
        assert len(hub.ask("GET", "/api/v1/tasks", bearer=consumer).json["tasks"]) == 1
        hub.submit(consumer)


def noting(number: int) -> Callable[[Ledger], None]:
    """Return a set that writes 200 KB."""
    return lambda ledger: ledger.set_meta(f"k{number % 50}", f"{number:08}" * 25_000)


class SlowClock(Clock):
    """Be the machine's clock, which a test has gone on by `ahead` seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        """Return seconds, moved."""
        return super().monotonic() + self.ahead


def test_a_ledger_that_takes_long_to_open_is_no_sleep_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub counts from when it serves on, and says that it stood still only where it did."""
    clock, open_store = SlowClock(), Store.open

    def open_slowly(store: Store) -> None:
        open_store(store)
        clock.ahead += 60.0

    monkeypatch.setattr(Store, "open", open_slowly)
    with running_hub(tmp_path, clock=clock) as hub:

        def commits() -> int:
            (line,) = re.findall(
                r"^blocks_hub_commit_group_size_count (\d+)", hub.ask("GET", "/metrics").body.decode(), re.MULTILINE
            )
            return int(line)

        before = commits()
        wait_until(lambda: commits() >= before + 3, what="sweeps")
        assert "hub_stood_still" not in caplog.text
        clock.ahead += 60.0
        wait_until(lambda: "hub_stood_still" in caplog.text, what="a clock that did jump")


def test_a_long_read_holds_up_nobody_and_the_log_is_cut(tmp_path: Path) -> None:
    """Beside one that lasts writes and reads go on; once it is over the log that it kept is cut. [E10] [E11]"""
    log = tmp_path / "ledger.sqlite3-wal"
    store = Store(tmp_path / "ledger.sqlite3", clock=Clock())
    store.open()
    store.write(lambda ledger: ledger.set_meta("first", "before")).result(10)
    entered, go = threading.Event(), threading.Event()

    def look(ledger: Ledger) -> tuple[str | None, str | None]:
        seen = ledger.meta("first")
        entered.set()
        assert go.wait(200)
        return seen, ledger.meta("first")

    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(store.survey, look)
        assert entered.wait(10)
        clock, slowest, numbers = Clock(), 0.0, itertools.count()
        while log.stat().st_size < LOG_KEPT + 8_000_000:
            began = clock.monotonic()
            wait([store.write(noting(number)) for number in itertools.islice(numbers, 8)], 30)
            slowest = max(slowest, clock.monotonic() - began)
            store.write(lambda ledger: ledger.set_meta("first", "after")).result(10)
            assert store.read(lambda ledger: ledger.meta("first")) == "after"
        assert not long.done()
        go.set()
        assert long.result(10) == ("before", "before"), "one read is of one moment"
    for number in range(20):
        store.write(noting(number)).result(10)
    size = log.stat().st_size
    store.close(Deadline(10))

    assert slowest < 5.0
    assert size <= LOG_KEPT


@pytest.mark.timeout(1200)
def test_a_ledger_stays_as_large_as_what_it_keeps(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Tasks come and go: once their time is over the room of the first is that of the next, round after round. [E20]"""
    path, sizes = tmp_path / "ledger.sqlite3", []
    tasks = 20_000 if request.config.getoption("--long") else 120
    with World(path) as world:
        world.add_agent(max_pending_backlog=10 * tasks)
        for turn in range(3):
            holder = world.join(f"inc{turn}", instance_id="one")
            for number in range(tasks):
                key = f"t{turn}-{number}"
                world.report(holder, world.run(holder, key), key, events=(1, 2), outcome=done(2))
            sizes.append(_pages(path, world))
            world.clock.advance((RETENTION_MS + STUB_LIFE_MS) / 1000 + 1)
            for _ in range(tasks // 500 + 2):
                world.sweep(61.0)
            assert world.page(limit=1).body.tasks == []  # type: ignore[attr-defined]  # a TaskPage
    assert sizes[0] > 30
    assert max(sizes) <= sizes[0] * 1.15, sizes


def _pages(path: Path, world: World) -> int:
    """Return how many pages the ledger has, those in its log included."""
    world.store.write(lambda ledger: ledger.set_meta("at", "rest")).result(10)
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
    finally:
        connection.close()
