"""New tasks stop before the disk is full, and what runs has a reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocks_worker.hub.room import RESERVE, Disk, Room

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024


class FakeDisk:
    """A disk of which a test says how full it is; the reserve that lies on it takes its room."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder = folder
        self.total = total
        self.used = 0

    def __call__(self, folder: Path) -> Disk:
        """Say how it is."""
        assert folder == self._folder
        return Disk(self.total, self.total - self.used - self.reserve)

    @property
    def reserve(self) -> int:
        """The size of the reserve file."""
        path = self._folder / RESERVE
        return path.stat().st_size if path.exists() else 0


@pytest.fixture
def disk(tmp_path: Path) -> FakeDisk:
    """Give a disk of 100 MB."""
    return FakeDisk(tmp_path, 100 * MB)


def test_an_empty_disk_admits_and_gets_its_reserve(tmp_path: Path, disk: FakeDisk) -> None:
    """The reserve is private and half of what is to stay free, at most 16 MB."""
    room = Room(tmp_path, reserve_bytes=10 * MB, disk=disk)
    room.look()

    assert room.admits()
    assert disk.reserve == 5 * MB
    assert (tmp_path / RESERVE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("total", "high_water"),
    [(8 * MB, 2 * MB), (400 * MB, 100 * MB), (2_000 * MB, 200 * MB), (10_000 * MB, 500 * MB), (10**15, 1024 * MB)],
)
def test_what_stays_free_by_itself(tmp_path: Path, total: int, high_water: int) -> None:
    """Five per cent, within 200 MB and 1 GB, and never more than a quarter of a small disk. [E3]"""
    disk = FakeDisk(tmp_path, total)
    room = Room(tmp_path, disk=disk)
    room.look()
    disk.used = total - high_water - disk.reserve
    room.look()
    at_high_water = room.admits()
    disk.used += 1
    room.look()

    assert (at_high_water, room.admits()) == (True, False)


def test_it_recovers_alone(tmp_path: Path, disk: FakeDisk) -> None:
    """Below the high water nothing new; with room again all is as before. [E3]"""
    room = Room(tmp_path, reserve_bytes=10 * MB, disk=disk)
    room.look()
    disk.used = 94 * MB
    room.look()
    short = room.admits()
    disk.used = 0
    room.look()

    assert (short, room.admits()) == (False, True)


def test_the_reserve_is_released_once_and_made_again_when_there_is_room(tmp_path: Path, disk: FakeDisk) -> None:
    """A ledger that found the disk full gets the reserve; it comes back only when there is room for both. [E3]"""
    room = Room(tmp_path, reserve_bytes=10 * MB, disk=disk)
    room.look()
    disk.used = 95 * MB
    released = [room.release(), room.release()]
    after = (disk.reserve, room.admits())
    disk.used = 86 * MB
    room.look()
    not_yet = (disk.reserve, room.admits())
    disk.used = 80 * MB
    room.look()

    assert released == [True, False]
    assert after == (0, False)
    assert not_yet == (0, False)
    assert (disk.reserve, room.admits()) == (5 * MB, True)


def test_a_disk_that_cannot_be_asked_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the look is told, and the answer stays."""

    def broken(_folder: Path) -> Disk:
        raise OSError(5, "Input/output error")

    room = Room(tmp_path, disk=broken)
    room.look()

    assert room.admits()
    assert "disk_look_failed" in caplog.text
