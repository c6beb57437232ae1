"""Outcomes that wait too long for the hub's answer are on disk before anybody can kill the process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.leases import LateReport, Outcome, Report
from blocks_worker.worker.spool import SPOOL_AFTER, Spool, SpoolPlace
from blocks_worker.worker.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEY = ("t1", 7)
#: Seconds without an answer after which these spools write.
AFTER = 0.3


class Disk:
    """Open real files; while `full`, they take nothing, and `written` tells what they took."""

    def __init__(self) -> None:
        self.full = threading.Event()
        self.asked = threading.Event()
        self.written: list[bytes] = []

    def open(self, path: Path) -> DiskFile:
        """Open one."""
        return DiskFile(self, path)


class DiskFile(SpoolFile):
    """A real file on that disk."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__(path)
        self._of = disk

    def append(self, records: Sequence[bytes]) -> None:
        """Write, unless the disk is full."""
        self._of.asked.set()
        if self._of.full.is_set():
            raise OSError(28, "No space left on device")
        super().append(records)
        self._of.written += records


def report(key: tuple[str, int] = KEY) -> Report:
    """Return an outcome without events."""
    return Report(
        task_id=key[0], epoch=key[1], lease="l", outcome=Outcome(state="completed", last_n=0, digest="d" * 64)
    )


@pytest.fixture
def disk() -> Disk:
    """Give a disk."""
    return Disk()


@pytest.fixture
def place(tmp_path: Path) -> SpoolPlace:
    """Give a place."""
    return SpoolPlace.of(tmp_path / "spool", hub="sub-c", api_key="bk", always=False)


@pytest.fixture
def spool_at(disk: Disk) -> Iterator[Callable[..., Spool]]:
    """Return a function that starts a spool in which every outcome is unanswered; all are stopped at the end."""
    made: list[Spool] = []

    def start(place: SpoolPlace, after: float = AFTER) -> Spool:
        spool = Spool(
            place,
            incarnation=lambda: "life",
            unanswered=lambda keys: [report(key) for key in keys],
            clock=Clock(),
            open_file=disk.open,
            after=after,
        )
        spool.start()
        made.append(spool)
        return spool

    yield start
    for spool in made:
        assert spool.stop(Deadline(5))


def kept(place: SpoolPlace) -> list[LateReport]:
    """Return what is on disk."""
    lines = [line for path in place.files() for line in path.read_bytes().splitlines()]
    return [decode_trusted(LateReport, line) for line in lines]


def test_what_is_answered_in_time_never_meets_the_disk(
    place: SpoolPlace, spool_at: Callable[..., Spool], disk: Disk
) -> None:
    """An outcome that the hub answers at once makes no file."""
    after = 3.0
    spool = spool_at(place, after)
    spool.ended(KEY)
    spool.answered(KEY)

    assert not disk.asked.wait(after + 0.3)
    assert place.files() == []


def test_an_overdue_outcome_is_written_with_its_incarnation(place: SpoolPlace, spool_at: Callable[..., Spool]) -> None:
    """After its second without an answer it is on disk, private to its user; answered, the file goes."""
    assert SPOOL_AFTER == 1.0
    spool = spool_at(place)
    spool.ended(KEY)
    wait_until(lambda: kept(place), what="the record")

    assert kept(place) == [LateReport(incarnation="life", report=report())]
    (path,) = place.files()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)

    spool.answered(KEY)
    wait_until(lambda: place.files() == [], what="the end of the file")


def test_a_stop_writes_what_is_unanswered(place: SpoolPlace, spool_at: Callable[..., Spool]) -> None:
    """Nothing waits for its second when the process ends."""
    spool = spool_at(place)
    spool.ended(KEY)

    assert spool.stop(Deadline(5))
    assert len(kept(place)) == 1


def test_a_stop_with_everything_answered_leaves_no_file(place: SpoolPlace, spool_at: Callable[..., Spool]) -> None:
    """A clean end is clean."""
    spool = spool_at(place)
    spool.ended(KEY)
    wait_until(lambda: kept(place), what="the record")
    spool.answered(KEY)

    assert spool.stop(Deadline(5))
    assert place.files() == []


def test_what_may_not_run_twice_is_written_before_it_is_sent(place: SpoolPlace, spool_at: Callable[..., Spool]) -> None:
    """For at-most-once tasks the record is there when the request goes out."""
    always = SpoolPlace(place.folder, place.mark, always=True)
    spool = spool_at(always)
    spool.ended(KEY)
    spool.before_sending([KEY])

    assert len(kept(always)) == 1


def test_one_task_that_may_not_run_twice_is_written_first(place: SpoolPlace, spool_at: Callable[..., Spool]) -> None:
    """Where its sender wants a task run at most once, its record is there first; that of others is not. [R-12]"""
    spool = spool_at(place, 60.0)
    spool.ended(KEY)
    spool.before_sending([KEY])
    others = kept(place) if place.files() else []
    spool.ended(KEY, once=True)
    spool.before_sending([KEY])

    assert (len(others), len(kept(place))) == (0, 1)


def test_a_full_disk_is_asked_again(
    place: SpoolPlace, spool_at: Callable[..., Spool], disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that takes nothing costs a warning, and what it refused is written as soon as it does, whole."""
    spool = spool_at(place)
    disk.full.set()
    spool.ended(KEY)
    assert disk.asked.wait(30)
    wait_until(lambda: "spool_failed" in caplog.text, what="the warning")
    disk.full.clear()

    assert spool.stop(Deadline(5))
    assert len(kept(place)) == 1
