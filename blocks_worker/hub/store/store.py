"""The store: one writer thread that commits what waits in groups, and reads beside it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from blocks_worker.concurrency import Alarm, ServiceThread
from blocks_worker.errors import StoreError
from blocks_worker.hub.store.admission import GROUP_SETS, Admission
from blocks_worker.hub.store.database import Database, open_database
from blocks_worker.hub.store.faults import ours
from blocks_worker.hub.store.group import MismatchError
from blocks_worker.hub.store.ledger import Ledger
from blocks_worker.hub.store.numbering import Numbering
from blocks_worker.hub.store.reads import Reads
from blocks_worker.hub.store.sets import Call, FutureAnswer, WriteSet, in_turn
from blocks_worker.observability.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

    from blocks_worker.concurrency import Clock, Deadline
    from blocks_worker.hub.store.sets import Answer
    from blocks_worker.hub.store.transaction import Publication

    Works = Sequence[Callable[[Ledger], Any]]

T = TypeVar("T")
Told = TypeVar("Told", bound="Answer")

_logger = logging.getLogger(__name__)


class Store:
    """Own the ledger's database and its writer thread.

    1. Writes wait in one queue; the writer takes all that wait as one transaction. Those about tasks are run together,
       and one after the other where one is not as expected; each of the others has a savepoint of its own.
    2. After the commit the acts are handed to `on_acts` and the messages to `on_commit`, then the callers are answered,
       the last two inside `round_`.
    3. When the disk is full `on_full` is asked to make room, and what failed is tried once more.
    4. Reads run on the caller's thread, one at a time, and see every write that was answered.
    5. When others have written to the file, `on_foreign` is asked before more is written; what it raises all are told.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Clock,
        on_commit: Callable[[list[Publication]], None] = lambda _said: None,
        on_full: Callable[[], bool] = lambda: False,
        on_acts: Callable[[list[tuple[str, dict[str, Any]]]], None] = lambda _acts: None,
        on_foreign: Callable[[Ledger], None] = lambda _ledger: None,
        synchronous: str = "full",
        round_: AbstractContextManager[object] | None = None,
    ) -> None:
        self._path = path
        self._round = round_ or nullcontext()
        self._synchronous = synchronous
        self._clock = clock
        self._on_commit = on_commit
        self._on_full = on_full
        self._on_acts = on_acts
        self._on_foreign = on_foreign
        self._version: int | None = None
        self._numbering = Numbering()
        self._database: Database | None = None
        self._thread = ServiceThread("store-writer", self._write_loop)
        self._lock = threading.Lock()
        self._alarm = Alarm()
        self._queue: deque[WriteSet] = deque()
        self._under_way: list[WriteSet] = []
        self._admission = Admission()
        self._closing = False
        self._broken: StoreError | None = None
        self._reads = Reads(self._numbering)
        #: What happened since the start, as far as it was committed, and how many sets each commit had. Only the
        #: writer counts; anybody may read.
        self.counts: Counter[str] = Counter()
        self.groups = Spread((1, 2, 4, 8, 16, 32, 64, 128, 256, GROUP_SETS))

    def open(self) -> None:
        """Open the database and start the writer.

        Raises:
            StoreError: the database is damaged, of another version, or can not be opened.
        """
        self._database = self._reads.database = open_database(self._path, synchronous=self._synchronous)
        (last,) = self._database.driver.execute("SELECT max(seq) FROM event").fetchone()
        self._numbering.start_after(max(last or 0, self.read(lambda ledger: ledger.published())))
        self._thread.start()

    def close(self, deadline: Deadline) -> None:
        """Write what waits, join the writer, close the database."""
        with self._lock:
            self._closing = True
        self._alarm.ring()
        if not self._thread.join(deadline.remaining()):
            _logger.error("store_writer_left_behind")
            return
        database, self._database = self._database, None
        if database is not None:
            self._reads.close()

    def write(self, work: Callable[[Ledger], T]) -> Future[T]:
        """Run the work in a transaction; the future is resolved after the commit."""
        return self.put([work], [None], FutureAnswer(), is_one=True).future

    def write_many(
        self, works: Sequence[Callable[[Ledger], T]], about: Sequence[str], *, is_new: bool = False
    ) -> Future[list[T | Exception]]:
        """Run works in one transaction as far as it has room; the future has what each returned, or raised, in order.

        `about`: the task that each is about. Such a work may be run twice, of which one counts: it does nothing outside
        the ledger. `is_new`: they bring new work, and are turned away when too many wait.
        """
        return self.put(works, about, FutureAnswer(), is_new=is_new).future

    def put(
        self, works: Works, about: Sequence[str | None], answer: Told, *, is_one: bool = False, is_new: bool = False
    ) -> Told:
        """Do as `write_many`, or `write` where `is_one`, and have the writer's thread tell this answer; return it."""
        call = Call(len(works), answer, is_one=is_one)
        now = self._clock.monotonic()
        sets = [WriteSet(work, call, place, about[place], now) for place, work in enumerate(works)]
        with self._lock:
            refusal = self._refusal(len(sets) if is_new else 0)
            if refusal is None:
                self._queue.extend(sets)
        self._alarm.ring()
        for item in sets if refusal is not None else ():
            item.error = refusal
            item.resolve()
        if not sets:
            answer.give([])
        return answer

    def read(self, work: Callable[[Ledger], T]) -> T:
        """Run a short read on this thread, all of it at one moment of the ledger."""
        return self._reads.read(work)

    def survey(self, work: Callable[[Ledger], T]) -> T:
        """Run a long read as `read` does, on a connection of its own: it holds up nobody."""
        return self._reads.survey(work)

    def fault(self) -> StoreError | None:
        """Return why nothing can be written; None when it can."""
        with self._lock:
            return self._refusal(0)

    @property
    def waiting(self) -> int:
        """How many sets of writes wait."""
        return len(self._queue)

    def _refusal(self, more: int) -> StoreError | None:
        if self._broken is not None:
            return self._broken
        if self._closing:
            return StoreError("the store is closed", code="closed")
        return self._turned_away(more) if more else None

    def _turned_away(self, more: int) -> StoreError | None:
        """Return what new work is told for which there is no time now."""
        oldest = self._clock.monotonic() - self._queue[0].since if self._queue else 0.0
        pause = self._admission.pause(more, waiting=len(self._queue), oldest=oldest)
        if pause is None:
            return None
        return StoreError("too many writes wait, or for too long: try again", code="busy", retry_after=pause)

    # -------------------------------------------------------------------------------------------- writer thread
    def _write_loop(self) -> None:
        try:
            while self._wait():
                self._write_group()
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Have nobody wait for a writer that is dead."""
        with self._lock:
            self._broken = StoreError(
                "the ledger's writer died: restart the hub; its log tells why", code="writer_died"
            )
            left = [*self._under_way, *self._queue]
            self._queue.clear()
        for item in left:
            item.call.fail(self._broken)

    def _write_group(self) -> None:
        """Commit what waits, then say it, then answer."""
        said: list[Publication] = []
        done = self._commit_group(said)
        with self._round:
            self._hand_over(said)
            for item in done:
                item.resolve()

    def _wait(self) -> bool:
        """Wait for work; tell whether there is some."""
        while True:
            # Nothing is put any more once it closes.
            is_last = self._closing
            if self._queue or is_last:
                return bool(self._queue)
            self._alarm.sleep(None)

    def _commit_group(self, said: list[Publication]) -> list[WriteSet]:
        database = self._database
        if database is None:
            raise RuntimeError("the writer runs on an open database only")
        if not database.is_shared:
            return self._transact(database, self._take(), said)
        with self._reads.lock:
            return self._transact(database, self._take(), said)

    def _take(self) -> list[WriteSet]:
        """Return what waits, and who waits for it still."""
        with self._lock:
            self._under_way = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_SETS))]
        return [item for item in self._under_way if item.call.takes()]

    def _transact(self, database: Database, sets: list[WriteSet], said: list[Publication]) -> list[WriteSet]:
        """Run the sets in one transaction, and return those that had their turn; when the disk is full, each alone."""
        ledger = Ledger(database.writer, database.driver, self._numbering)
        taken = sets
        try:
            taken = self._run_all(ledger, sets)
        except Exception as error:  # noqa: BLE001 - whatever it was, everybody who waits is told
            self._roll_back(ledger)
            self._after_failure(database, error, taken, said)
            return taken
        for note in ledger.take_stands():
            note()
        said += ledger.outbox
        self.groups.note(len(taken))
        for what in ledger.happened:
            self.counts[what] += 1
        self.counts["statements"] += ledger.statements
        if ledger.acts:
            self._on_acts(ledger.acts)
        refused = [item for item in taken if isinstance(item.error, StoreError) and item.error.code == "full"]
        if refused and self._on_full():
            self._each_alone(database, refused, said)
        return taken

    def _run_all(self, ledger: Ledger, sets: list[WriteSet]) -> list[WriteSet]:
        """Run the sets until it took long enough, and commit; those that are left wait again, before all others."""
        begun = self._clock.monotonic()
        end = begun + self._admission.group_seconds
        ordered, together = in_turn(sets)
        self._begin(ledger)
        taken = self._run_together(ledger, ordered[:together], end) if together else []
        for item in ordered[len(taken) :]:
            if taken and self._clock.monotonic() >= end:
                break
            self._run_one(ledger, item)
            taken.append(item)
        self._close_up(ledger)
        self._commit(ledger, begun, sets=len(taken), is_cut=len(taken) < len(ordered))
        self._put_back(ordered[len(taken) :])
        return taken

    def _begin(self, ledger: Ledger) -> None:
        """Open the transaction, of whatever was written by others meanwhile."""
        ledger.begin()
        version = ledger.data_version()
        if version != self._version:
            self._on_foreign(ledger)
            self._version = version

    def _commit(self, ledger: Ledger, begun: float, *, sets: int, is_cut: bool) -> None:
        """Commit, and note how long that took."""
        ran = self._clock.monotonic()
        ledger.commit()
        now = self._clock.monotonic()
        self._admission.committed(sets=sets, seconds=now - begun, sync=now - ran, is_cut=is_cut)

    def _run_together(self, ledger: Ledger, sets: list[WriteSet], end: float) -> list[WriteSet]:
        """Run sets whose statements can be run together; return those that were, none if that did not work."""
        taken: list[WriteSet] = []
        try:
            with ledger.together():
                ledger.prefetch(item.about for item in sets if item.about is not None)
                for item in sets:
                    taken.append(item)
                    self._run_kept(ledger, item)
                    if self._clock.monotonic() >= end:
                        break
                for act in ledger.take_put_off():
                    act()
        except Exception as error:  # noqa: BLE001 - each is run alone now, which tells whose error it was
            _logger.debug("group_undone", extra={"reason": repr(error), "sets": len(taken)})
            self.counts["groups_undone"] += 1
            for item in taken:
                item.error = item.result = None
            ledger.roll_back()
            self._begin(ledger)
            return []
        return taken

    def _run_kept(self, ledger: Ledger, item: WriteSet) -> None:
        try:
            item.result = ledger.one_of_many(item.work)
        except MismatchError:
            raise
        except Exception as error:
            if not ledger.is_open():
                raise
            item.error = ours(error, "write_failed")

    def _run_one(self, ledger: Ledger, item: WriteSet) -> None:
        """Run one set in its savepoint; an error is its own, unless it took the whole transaction with it."""
        try:
            with ledger.savepoint():
                item.result = item.work(ledger)
        except Exception as error:
            if not ledger.is_open():
                raise
            item.error = ours(error, "write_failed")

    def _close_up(self, ledger: Ledger) -> None:
        """Do what was put off; what fails is left to the next sweep."""
        for act in ledger.take_put_off():
            try:
                with ledger.savepoint():
                    act()
            except Exception:
                if not ledger.is_open():
                    raise
                _logger.exception("put_off_failed")

    def _put_back(self, sets: list[WriteSet]) -> None:
        for item in sets:
            item.was_left = item.about is None
        if sets:
            with self._lock:
                self._queue.extendleft(reversed(sets))

    def _after_failure(
        self, database: Database, error: Exception, taken: list[WriteSet], said: list[Publication]
    ) -> None:
        failure = ours(error, "commit_failed")
        code = getattr(failure, "code", "commit_failed")
        _logger.error("commit_failed", extra={"reason": str(error), "code": code, "sets": len(taken)})
        if code == "full" and (self._on_full() or len(taken) > 1):
            self._each_alone(database, taken, said)
            return
        if code == "commit_failed":
            # What the disk holds is unknown now: nothing more is acknowledged until somebody opened it anew.
            self._broken = StoreError("the ledger's disk failed: restart the hub", code="commit_failed")
        elif code == "taken":
            self._broken = failure
        for item in taken:
            item.error = failure

    def _each_alone(self, database: Database, sets: list[WriteSet], said: list[Publication]) -> None:
        for item in sets:
            item.error = None
            self._transact(database, [item], said)

    def _roll_back(self, ledger: Ledger) -> None:
        try:
            ledger.roll_back()
        except sqlite3.Error:
            _logger.exception("rollback_failed")

    def _hand_over(self, said: list[Publication]) -> None:
        if not said:
            return
        try:
            self._on_commit(said)
        except Exception:  # the top of what the commit leads to: the rows stand, readers find them by polling
            _logger.exception("publication_failed")
