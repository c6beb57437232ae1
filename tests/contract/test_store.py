"""What every store promises to those who write and read the ledger; the words stand in ``hub/store/store.py``."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest
from ledger_world import World, done

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import StoreError
from blocks_worker.hub.store.admission import MAX_WAITING
from blocks_worker.hub.store.transaction import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Give a ledger on each store there is."""
    with World(None if request.param == "memory" else tmp_path / "ledger.sqlite3") as world:
        world.add_agent()
        yield world


class Held:
    """Hold the writer inside a set, so that what comes meanwhile is one group."""

    def __init__(self, world: World) -> None:
        self._go, entered = threading.Event(), threading.Event()

        def hold(_ledger: Ledger) -> None:
            entered.set()
            assert self._go.wait(60)

        self._held = world.store.write(hold)
        assert entered.wait(10)

    def release(self) -> None:
        """Let the writer go on."""
        self._go.set()
        self._held.result(30)


def noting(key: str, value: str = "x") -> Callable[[Ledger], str]:
    """Return a set that notes a value and says so."""

    def work(ledger: Ledger) -> str:
        ledger.set_meta(key, value)
        ledger.outbox.append(Publication("c", key.encode(), "free"))
        return value

    return work


def noted(world: World, key: str) -> str | None:
    """Return what was noted."""
    return world.store.read(lambda ledger: ledger.meta(key))


def test_a_caller_reads_its_own_writes(world: World) -> None:
    """Whatever was answered is seen by the next read, from any thread."""
    for number in range(50):
        world.store.write(noting("a", str(number))).result(30)

        assert noted(world, "a") == str(number)


def test_a_group_is_committed_in_order_and_said_once(world: World) -> None:
    """What gathers while the writer is at work is one commit: its sets in order, its messages after it, each once."""
    held = Held(world)
    futures = [world.store.write(noting(f"k{number}", str(number))) for number in range(30)]
    futures += [world.store.write(noting("k0", "last"))]
    held.release()
    wait(futures, 60)

    assert [future.result(0) for future in futures] == [*map(str, range(30)), "last"]
    assert noted(world, "k0") == "last"
    assert [said.message for said in world.said] == [*(b"k%d" % number for number in range(30)), b"k0"]


def test_a_set_that_raises_takes_nobody_with_it(world: World) -> None:
    """[J7] One bad set among many is undone and unsaid; rows, numbers and messages of its neighbours stand."""

    def bad(ledger: Ledger) -> None:
        noting("bad")(ledger)
        row = ledger.task("t1")
        assert row is not None
        ledger.say(row, row.epoch, {"type": "system", "status": "bad"})
        raise LookupError("no")

    world.add("t1")
    held = Held(world)
    first, broken, last = (world.store.write(work) for work in [noting("a"), bad, noting("b")])
    held.release()

    assert (first.result(30), last.result(30)) == ("x", "x")
    assert isinstance(broken.exception(30), LookupError)
    assert (noted(world, "a"), noted(world, "bad"), noted(world, "b")) == ("x", None, "x")
    assert all(b"bad" not in said.message for said in world.said)
    assert world.events("t1") == []


def test_two_who_want_the_same_turn(world: World) -> None:
    """[B11] Of two sets of one group that make the same turn of a task one makes it; the other is told."""
    holder = world.join()
    row = world.add("t1")
    offered = world.row("t1")
    held = Held(world)
    futures = [
        world.store.write(lambda ledger: ledger.claim(offered, holder.incarnation, now=1, due=None)) for _ in range(2)
    ]
    held.release()

    assert [future.result(30) for future in futures] == [True, False]
    assert world.row("t1").attempt == row.attempt + 1


def test_too_much_is_refused_by_name_and_passes(world: World) -> None:
    """New work is turned away at once as busy when too much waits, and taken once there is room; a report is not."""
    held = Held(world)
    futures = [world.store.write(noting("a")) for _ in range(MAX_WAITING)]
    (error,) = world.store.write_many([noting("b")], [""], is_new=True).result(0)
    futures.append(world.store.write(noting("report")))
    held.release()
    wait(futures, 60)

    assert isinstance(error, StoreError)
    assert error.code == "busy"
    assert noted(world, "report") == "x"
    assert world.store.write_many([noting("b")], [""], is_new=True).result(30) == ["x"]


def test_a_full_disk_is_told_and_spares_what_fits(world: World) -> None:
    """[E3] A set that does not fit is refused as full, what fits beside it is kept, and room mends it."""

    def limit(ledger: Ledger, pages: int) -> None:
        ledger.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    world.do(lambda ledger: limit(ledger, 90))
    held = Held(world)
    small, big = (world.store.write(work) for work in [noting("a"), noting("b", "x" * 1_000_000)])
    held.release()
    error = big.exception(30)

    assert small.result(30) == "x"
    assert isinstance(error, StoreError)
    assert error.code == "full"
    world.do(lambda ledger: limit(ledger, 100_000))
    assert world.store.write(noting("b", "x" * 1_000_000)).result(30)


def test_a_store_that_is_closed_says_so(world: World) -> None:
    """Who comes after the end is refused by name, reader and writer alike; who was there was answered."""
    futures = [world.store.write(noting(str(number))) for number in range(20)]
    world.store.close(Deadline(30))
    late = world.store.write(noting("late")).exception(0)

    assert [future.result(0) for future in futures] == ["x"] * 20
    assert isinstance(late, StoreError)
    assert late.code == "closed"
    with pytest.raises(StoreError, match="closed"):
        noted(world, "0")


def test_what_was_answered_is_there_after_a_reopening(tmp_path: Path) -> None:
    """[E1] A file keeps rows, events and their numbers over a restart. (A store in memory promises no such thing.)"""
    with World(tmp_path / "ledger.sqlite3") as world:
        world.add_agent()
        holder = world.join()
        lease = world.run(holder, "t1")
        assert world.report(holder, lease, "t1", events=(1, 2), outcome=done(2)).status == 200
        row, events = world.row("t1"), world.events("t1")
        world.store.close(Deadline(30))
        world.boot()
        world.add("t2", deadline=world.clock.wall_ms() + 1)
        world.sweep(1)

        assert (world.row("t1"), world.events("t1")) == (row, events)
        assert world.events("t2")[0]["seq"] > events[-1]["seq"]
