"""The hub's process: the shipped store, services and sweeper on a database that outlives it.

Another one may begin on the same database while it lives, as when the lock of the folder was lost: it finds out, and
is over.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from simulation import watch
from simulation.heap import Owner
from support import SeededEntropy

from blocks_worker.concurrency import SteadyClock
from blocks_worker.errors import StoreError
from blocks_worker.hub.file_service import FileService
from blocks_worker.hub.instance_service import InstanceService
from blocks_worker.hub.shares import Shares
from blocks_worker.hub.store.database import driver_of, open_database
from blocks_worker.hub.store.ledger import Ledger
from blocks_worker.hub.store.life import Life
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.task_service import TaskService
from blocks_worker.protocol.leases import Numbers, Process
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from simulation.network import Answers
    from simulation.world import World

    from blocks_worker.hub.store.transaction import Publication

SECRET = b"s" * 32
#: Seconds that gather calls into one commit, between sweeps, between savings of what was published.
GATHER, SWEEP, SAVE = 0.002, 1.0, 1.0
#: Which part of the processes is given tasks with their offers.
LINKED = 0.5


#: Calls whose items are about one task each.
_ABOUT_TASKS = ("submit", "claim", "nack", "reports")


class CrashError(BaseException):
    """Be the death of the process: nothing in it may catch this."""


class Hub:
    """Live, die at the worst moment, and live again on the same ledger."""

    def __init__(self, world: World, number: int = 0, before: Hub | None = None) -> None:
        self._world = world
        self._number = number
        self.database = open_database(None) if before is None else before.database
        self._driver = driver_of(self.database.writer)
        if before is None:
            watch.set_up(self._driver, world.story.limit)
            for plan in world.story.tasks:
                self.plans(plan.name, plan.delay, plan.priority)
        self._boots = 0
        #: For files, so that they move no other draw.
        self._entropy = SeededEntropy(world.story.seed + 1)
        #: Another one has begun on its ledger.
        self.is_replaced = False
        self._life = Owner()
        self._waiting: list[tuple[list[Future[Any]], Callable[[Answers], None]]] = []
        self._is_flushing = self._has_reports = False
        self._published = 0
        self._doom, self._is_doomed = "", False
        self._away = 0.0
        self._steady = SteadyClock(world.heap.clock)
        self.boot()

    @property
    def is_up(self) -> bool:
        """Tell whether there is a process."""
        return not self._life.is_gone

    def boot(self) -> None:
        """Start on the ledger that is there; what was kept in memory is gone."""
        if self.is_replaced:
            return
        world, numbers, steady = self._world, Numbers(), self._steady
        self._life = Owner()
        self._boots += 1
        served = Life(f"hub-{self._number}.{self._boots}")
        self._store = Store(None, clock=world.heap.clock, on_commit=self._said, on_foreign=served.check)
        # As `Store.open` does, but for the thread: here the heap is the only one.
        self._store._database = self._store._reads.database = self.database
        (last,) = self._driver.execute("SELECT max(seq) FROM event").fetchone()
        self._published = self._store.read(Ledger.published)
        self._store._numbering.start_after(max(last or 0, self._published))
        self.tasks = TaskService(
            numbers=numbers, steady=steady, entropy=world.entropy, secret=SECRET, follows=self._follows
        )
        self.instances = InstanceService(
            tasks=self.tasks,
            numbers=numbers,
            steady=steady,
            clock=world.heap.clock,
            entropy=world.entropy,
            secret=SECRET,
            is_alive=self._is_alive,
        )
        self.files = FileService(
            steady=steady, entropy=self._entropy, admits=lambda: True, shares=Shares(Quotas(), steady)
        )
        self._sweeper = Sweeper(tasks=self.tasks, instances=self.instances)
        self._store.write(served.begin)
        self._flush_soon()
        seq = self._published
        missed = self._store.read(lambda ledger: ledger.events_after(seq, 100_000))
        world.heap.after(0.05, lambda: self._hand_over(missed), self._life)
        world.heap.after(SWEEP, self._sweep, self._life)
        world.heap.after(SAVE, self._save, self._life)

    def plans(self, key: str, delay: float | None, priority: int) -> None:
        """Be told how a task with this key is asked for, which is not the hub's affair but the watcher's."""
        watch.planned(self._driver, key, delay, priority)

    def take(self, name: str, works: Sequence[Callable[[Ledger], Any]], answer: Callable[[Answers], None]) -> None:
        """Take the items of one request; they are answered after the commit."""
        if not self.is_up:
            answer(None)
            return
        self._has_reports |= name.startswith("reports")
        self._waiting.append((self._written(name, works), answer))
        self._flush_soon()

    def crash(self, point: str, seconds: float) -> None:
        """Die: now, or at that point of the next commit that takes a report."""
        if not self.is_up:
            return
        self._doom, self._away = point, seconds
        if point == "now":
            self._die()

    def _follows(self, _billing_mode: str, channel: str) -> bool:
        """Tell of half of the processes that they have a link: they are given tasks with their offers."""
        return self._world.story.draw("linked", channel) < LINKED

    def link_ended(self, channel: str) -> None:
        """Notice that a process has its link no more."""
        self.tasks.granted.left([channel])

    def _is_alive(self, process: Process) -> bool | None:
        return self._world.knows_process(process.pid)

    # ------------------------------------------------------------------ commits
    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._world.heap.after(GATHER, self._flush, self._life)

    def _flush(self) -> None:
        with self._world.carried_out_by(self):
            self._commit()

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        # The worst moment is one in which a worker is told that something is recorded.
        self._is_doomed, self._is_flushing, self._has_reports = self._has_reports, False, False
        if self._is_doomed and self._doom == "before commit":
            self._store.write(_die_here)
        elif self._is_doomed and self._doom == "torn commit":
            self._driver.set_authorizer(_refuse_commit)
        # One connection serves both hubs here, which tells neither of the other: each commit looks.
        self._store._version = None
        try:
            self._store._write_group()
        except CrashError:
            self._waiting = waiting
            self._die()
            return
        for futures, answer in waiting:
            answer(self._results(futures))
        if self._store._broken is not None:
            self._die()

    def _written(self, name: str, works: Sequence[Callable[[Ledger], Any]]) -> list[Future[Any]]:
        """Have the works written as the doors do: those about tasks together."""
        if name.startswith(_ABOUT_TASKS):
            return [self._store.write_many([work], [""]) for work in works]
        return [self._store.write(work) for work in works]

    def _results(self, futures: list[Future[Any]]) -> Answers:
        raised = [future.exception(0) for future in futures]
        answers = [error or future.result(0) for error, future in zip(raised, futures, strict=True)]
        answers = [answer[0] if isinstance(answer, list) else answer for answer in answers]
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        for error in errors:
            if not isinstance(error, StoreError):
                self._world.history.wrong(self._world.heap.now, f"a write raised {error!r}")
        return None if errors else answers

    def _said(self, said: list[Publication]) -> None:
        """Take what one commit said."""
        self._world.history.committed()
        if self._is_doomed and self._doom == "after commit":
            raise CrashError
        self._hand_over(said)
        if self._is_doomed and self._doom == "after publish":
            raise CrashError

    def _hand_over(self, said: list[Publication]) -> None:
        for publication in said:
            self._published = max(self._published, publication.seq or 0)
            self._world.network.publish(publication)

    def _die(self) -> None:
        world = self._world
        world.history.faults[f"hub died: {self._doom or 'torn commit'}"] += 1
        world.history.say(world.heap.now, f"the hub dies ({self._doom}), for {self._away:.1f} s")
        # None would do from Python 3.11 on.
        self._driver.set_authorizer(lambda *_asked: sqlite3.SQLITE_OK)
        with suppress(sqlite3.Error):
            self._driver.execute("ROLLBACK")
        self._life.is_gone = True
        self._doom = ""
        self._is_flushing = self._has_reports = False
        world.history.failing.clear()
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            answer(None)
        if not self.is_replaced:
            world.history.away.append((world.heap.now, world.heap.now + self._away))
            world.heap.after(self._away, self.boot)

    # ------------------------------------------------------------------ what it does by itself
    def _sweep(self) -> None:
        self._store.write(self._sweeper.sweep)
        if self._sweeper.failures:
            self._world.history.wrong(self._world.heap.now, "a sweep failed at a row")
        self._flush_soon()
        self._world.heap.after(SWEEP, self._sweep, self._life)

    def _save(self) -> None:
        seq = self._published
        if seq:
            self._store.write(lambda ledger: ledger.save_published(seq))
            self._flush_soon()
        self._world.heap.after(SAVE, self._save, self._life)


def _die_here(_ledger: Ledger) -> None:
    raise CrashError


def _refuse_commit(action: int, what: str | None, *_rest: object) -> int:
    is_commit = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
    return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK
