from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest
from support import FakeClock

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import StoreError
from blocks_worker.hub.store.admission import MAX_WAIT, MAX_WAITING
from blocks_worker.hub.store.database import driver_of
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.store.transaction import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Be where the ledger is: nowhere, or in a file."""
    return None if request.param == "memory" else tmp_path / "hub" / "ledger.sqlite3"


@pytest.fixture
def said() -> list[list[Publication]]:
    """Be what was said, commit by commit."""
    return []


@pytest.fixture
def clock() -> FakeClock:
    """Be the store's clock."""
    return FakeClock()


@pytest.fixture
def store(path: Path | None, said: list[list[Publication]], clock: FakeClock) -> Iterator[Store]:
    """Be an open store, for which no time passes by itself: else a slow machine would cut a group in two."""
    store = Store(path, clock=clock, on_commit=said.append)
    store.open()
    yield store
    store.close(Deadline(10))


def remember(key: str, value: str = "x") -> Callable[[Ledger], str]:
    """Return a set that stores a value, says it, and returns it."""

    def work(ledger: Ledger) -> str:
        ledger.set_meta(key, value)
        ledger.outbox.append(Publication("c", key.encode(), "free"))
        return value

    return work


class Gate:
    """Hold the writer inside a set, so that others gather."""

    def __init__(self, store: Store) -> None:
        self._open = threading.Event()
        self._entered = threading.Event()
        self.future = store.write(self._wait)
        assert self._entered.wait(10)

    def _wait(self, _ledger: Ledger) -> None:
        self._entered.set()
        assert self._open.wait(10)

    def release(self) -> None:
        """Let the writer go on."""
        self._open.set()


def test_a_write_is_read_once_it_is_answered(store: Store) -> None:
    """A caller reads what it wrote."""
    assert store.write(remember("a", "1")).result(10) == "1"
    assert store.read(lambda ledger: ledger.meta("a")) == "1"


def test_a_batch_that_nobody_waits_for_any_more_is_left_out(store: Store) -> None:
    """A caller goes away while his batch waits: none of it is written, and the writer goes on."""
    gate = Gate(store)
    left = store.write_many([remember("a"), remember("b"), remember("c")], about=["a", "b", "c"])
    assert left.cancel()
    after = store.write(remember("d"))
    gate.release()

    assert after.result(10) == "x"
    assert [store.read(lambda ledger, key=key: ledger.meta(key)) for key in "abcd"] == [None, None, None, "x"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_writer_that_died(store: Store) -> None:
    """What ends the writer's thread is told to all who wait, and to all who come."""

    def deadly(_ledger: Ledger) -> None:
        raise SystemExit("enough")

    gate = Gate(store)
    waiting = [store.write(deadly), store.write(remember("a"))]
    gate.release()

    for each in (*waiting, store.write(remember("b"))):
        with pytest.raises(StoreError) as caught:
            each.result(10)
        assert caught.value.code == "writer_died"


def test_what_waits_is_one_commit(store: Store, said: list[list[Publication]]) -> None:
    """Sets that gather while another runs are committed together, in order, and said together."""
    gate = Gate(store)
    futures = [store.write(remember(str(number))) for number in range(20)]
    gate.release()
    wait(futures, 10)

    assert [[one.message for one in group] for group in said] == [[b"%d" % number for number in range(20)]]


def test_a_set_that_raises_falls_alone(store: Store, said: list[list[Publication]]) -> None:
    """One bad set is undone and unsaid; its neighbours in the commit stand."""

    def bad(ledger: Ledger) -> None:
        remember("bad")(ledger)
        raise LookupError("no")

    gate = Gate(store)
    good, broken, also = (store.write(work) for work in [remember("a"), bad, remember("b")])
    gate.release()

    assert (good.result(10), also.result(10)) == ("x", "x")
    assert isinstance(broken.exception(10), LookupError)
    assert store.read(lambda ledger: ledger.meta("bad")) is None
    assert [one.message for group in said for one in group] == [b"a", b"b"]


def test_it_is_said_after_the_commit_and_before_the_answer(path: Path | None) -> None:
    """A listener finds the row when it hears of it, and the caller's answer comes after."""
    order: list[str] = []
    store = Store(path, clock=Clock(), on_commit=lambda _said: order.append("said"))
    store.open()
    future = store.write(remember("a"))
    future.add_done_callback(lambda _future: order.append("answered"))
    future.result(10)
    store.close(Deadline(10))

    assert order in (["said", "answered"], ["said"])


def test_a_listener_that_fails_stops_nothing(path: Path | None, caplog: pytest.LogCaptureFixture) -> None:
    """The rows stand when they cannot be said, and it is logged."""

    def deaf(_said: list[Publication]) -> None:
        raise OSError("deaf")

    store = Store(path, clock=Clock(), on_commit=deaf)
    store.open()
    result = store.write(remember("a")).result(10)
    store.close(Deadline(10))

    assert result == "x"
    assert "publication_failed" in caplog.text


def test_too_many_sets_turn_new_work_away(store: Store) -> None:
    """When much waits, new work is told at once to come again; what is under way is written all the same."""
    gate = Gate(store)
    waiting = [store.write(remember("a")) for _ in range(MAX_WAITING)]
    (error,) = store.write_many([remember("b")], [""], is_new=True).result(0)
    report = store.write(remember("c", "1"))
    gate.release()
    wait(waiting, 30)

    assert isinstance(error, StoreError)
    assert error.code == "busy"
    assert report.result(10) == "1"
    assert store.write_many([remember("d")], [""], is_new=True).result(10) == ["x"]


def test_one_that_waits_for_long_turns_new_work_away(store: Store, clock: FakeClock) -> None:
    """[E14] Few wait, but for more than a second: new work is told when to come again, a heartbeat is written."""
    gate = Gate(store)
    first = store.write_many([remember("a")], [""], is_new=True)
    clock.advance(MAX_WAIT + 0.1)
    (error,) = store.write_many([remember("b")], [""], is_new=True).result(0)
    beat = store.write(remember("c", "1"))
    gate.release()

    assert isinstance(error, StoreError)
    assert (error.code, error.retry_after) == ("busy", 1)
    assert (first.result(10), beat.result(10)) == (["x"], "1")
    assert store.write_many([remember("d")], [""], is_new=True).result(10) == ["x"]


def test_a_write_that_nobody_awaits_is_left_out(store: Store) -> None:
    """A caller who left before his set began changes nothing."""
    gate = Gate(store)
    left, stays = (store.write(work) for work in [remember("a"), remember("b")])
    left.cancel()
    gate.release()
    stays.result(10)

    assert store.read(lambda ledger: (ledger.meta("a"), ledger.meta("b"))) == (None, "x")


def test_close_writes_what_waits(path: Path | None) -> None:
    """A close answers everybody who was there, and refuses who comes later."""
    store = Store(path, clock=Clock())
    store.open()
    futures = [store.write(remember(str(number))) for number in range(50)]
    store.close(Deadline(10))
    late = store.write(remember("late")).exception(0)

    assert all(future.result(0) == "x" for future in futures)
    assert isinstance(late, StoreError)
    with pytest.raises(StoreError, match="closed"):
        store.read(lambda ledger: ledger.meta("a"))


def test_a_full_disk_is_told_and_recovers(tmp_path: Path) -> None:
    """[E3] What does not fit is refused by name, what fits beside it is kept, and room helps."""
    store = Store(tmp_path / "small.sqlite3", clock=Clock())
    store.open()
    limit = "PRAGMA max_page_count = {}"

    def set_limit(ledger: Ledger, pages: int) -> None:
        ledger.connection.exec_driver_sql(limit.format(pages))

    store.write(lambda ledger: set_limit(ledger, 60)).result(10)
    gate = Gate(store)
    small, big = (store.write(work) for work in [remember("a", "1"), remember("b", "x" * 1_000_000)])
    gate.release()
    error = big.exception(10)

    assert small.result(10) == "1"
    assert isinstance(error, StoreError)
    assert error.code == "full"
    assert store.read(lambda ledger: (ledger.meta("a"), ledger.meta("b"))) == ("1", None)
    store.write(lambda ledger: set_limit(ledger, 100_000)).result(10)
    assert store.write(remember("b", "x" * 1_000_000)).result(10)
    store.close(Deadline(10))


def test_a_full_disk_is_tried_again_when_room_was_made(tmp_path: Path) -> None:
    """[E3] Who is asked for room may give some: then nobody hears of the full disk. It is not asked for ever."""
    asked: list[bool] = []

    def make_room() -> bool:
        if not asked:
            driver_of(database.writer).execute("PRAGMA max_page_count = 100000")
        asked.append(True)
        return len(asked) == 1

    store = Store(tmp_path / "small.sqlite3", clock=Clock(), on_full=make_room)
    store.open()
    database = store._database
    assert database is not None
    store.write(lambda ledger: ledger.connection.exec_driver_sql("PRAGMA max_page_count = 60").close()).result(10)

    assert store.write(remember("b", "x" * 1_000_000)).result(10)
    store.write(lambda ledger: ledger.connection.exec_driver_sql("PRAGMA max_page_count = 400").close()).result(10)
    error = store.write(remember("c", "x" * 9_000_000)).exception(10)

    assert isinstance(error, StoreError)
    assert error.code == "full"
    assert len(asked) == 2
    store.close(Deadline(10))


@pytest.mark.long
def test_somebody_elses_lock_is_no_failure(tmp_path: Path) -> None:
    """[E5] While another program holds the database writers are told to come again, and then go on."""
    file = tmp_path / "ledger.sqlite3"
    store = Store(file, clock=Clock())
    store.open()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    error = store.write(remember("a")).exception(30)
    other.execute("ROLLBACK")
    other.close()
    result = store.write(remember("a")).result(30)
    store.close(Deadline(10))

    assert isinstance(error, StoreError)
    assert (error.code, result) == ("busy", "x")


def test_numbers_of_events_go_on_after_a_restart(tmp_path: Path) -> None:
    """A number that was said once is never given again, even when its row is gone."""
    file = tmp_path / "ledger.sqlite3"
    first = Store(file, clock=Clock())
    first.open()
    first.write(lambda ledger: ledger.save_published(41)).result(10)
    first.close(Deadline(10))
    second = Store(file, clock=Clock())
    second.open()
    number = second._numbering.next()
    second.close(Deadline(10))

    assert number == 42


def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """Nobody else may read the ledger."""
    store = Store(tmp_path / "ledger.sqlite3", clock=Clock())
    store.open()
    store.close(Deadline(10))

    assert (tmp_path / "ledger.sqlite3").stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """[E6] Something else under the ledger's name is refused with what to do, and left as it is."""
    file = tmp_path / "ledger.sqlite3"
    file.write_bytes(b"not a database" * 1000)
    store = Store(file, clock=Clock())

    with pytest.raises(StoreError, match="restore it from a backup"):
        store.open()
    assert file.read_bytes() == b"not a database" * 1000
    store.close(Deadline(1))


def test_a_damaged_database(tmp_path: Path) -> None:
    """[E6] A database with a page that makes no sense is not served."""
    file = tmp_path / "ledger.sqlite3"
    store = Store(file, clock=Clock())
    store.open()
    wait([store.write(remember(f"k{number}", "x" * 500)) for number in range(200)], 10)
    store.close(Deadline(10))
    content = bytearray(file.read_bytes())
    half = len(content) // 2 // 4096 * 4096
    content[half : half + 8192] = b"\xff" * 8192
    file.write_bytes(content)

    with pytest.raises(StoreError, match="restore it from a backup"):
        Store(file, clock=Clock()).open()


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that is a file is a sentence, not a trace."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="can not be opened"):
        Store(tmp_path / "file" / "ledger.sqlite3", clock=Clock()).open()


@pytest.mark.parametrize(("chosen", "level"), [({}, 2), ({"synchronous": "normal"}, 1)])
def test_how_sure_a_commit_is(tmp_path: Path, chosen: dict[str, str], level: int) -> None:
    """Commits wait for the disk, unless somebody chose otherwise. [E2]"""
    store = Store(tmp_path / "ledger.sqlite3", clock=Clock(), **chosen)  # type: ignore[arg-type]  # one text
    store.open()
    try:
        asked = store.write(lambda ledger: ledger.connection.exec_driver_sql("PRAGMA synchronous").scalar())
        assert asked.result(10) == level
    finally:
        store.close(Deadline(10))
