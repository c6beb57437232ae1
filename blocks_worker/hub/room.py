"""Whether the ledger's disk has room for new tasks, and a reserve for what has to go on without it."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_logger = logging.getLogger(__name__)

_MB = 1024 * 1024
#: What stays free, of a disk whose owner said nothing else: a part of it, within bounds, and never most of a small one.
_PART = 20
_LEAST = 200 * _MB
_MOST = 1024 * _MB
_SMALL_PART = 4
#: The reserve file is half of what stays free, at most this.
_LARGEST_RESERVE = 16 * _MB

RESERVE = "hub-reserve"


class Disk(NamedTuple):
    """How large a disk is, and how much of it is free, in bytes."""

    total: int
    free: int


def disk_of(folder: Path) -> Disk:
    """Return the disk that holds this folder."""
    usage = shutil.disk_usage(folder)
    return Disk(usage.total, usage.free)


def kept_free(disk: Disk) -> int:
    """Return how much of a disk stays free where its owner said nothing else, in bytes."""
    return min(max(disk.total // _PART, _LEAST), _MOST, disk.total // _SMALL_PART)


class Room:
    """Look at the disk now and then.

    1. Below the high water no new task is taken, so that those which are there can come to their end.
    2. A file of no use is held on the disk. When the ledger finds the disk full, `release` gives that room to it.
    3. With enough room again the file is made anew, and tasks are taken again.
    """

    def __init__(
        self, folder: Path, *, reserve_bytes: int | None = None, disk: Callable[[Path], Disk] = disk_of
    ) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._disk = disk
        self._lock = threading.Lock()
        self._admits = True

    def admits(self) -> bool:
        """Tell whether new tasks are taken."""
        return self._admits

    def look(self) -> None:
        """Look at the disk; make the reserve again when there is room for it."""
        with self._lock:
            try:
                disk = self._disk(self._folder)
                self._decide(disk, self._high_water(disk))
            except OSError as error:
                _logger.warning("disk_look_failed", extra={"reason": str(error)})

    def release(self) -> bool:
        """Give the reserve to the ledger, and take nothing new; tell whether there was one."""
        with self._lock:
            self._turn(admits=False, free=0)
            try:
                (self._folder / RESERVE).unlink()
            except OSError:
                return False
            _logger.warning("reserve_released")
            return True

    def _high_water(self, disk: Disk) -> int:
        if self._reserve_bytes is not None:
            return self._reserve_bytes
        return kept_free(disk)

    def _decide(self, disk: Disk, high_water: int) -> None:
        size = min(high_water // 2, _LARGEST_RESERVE)
        free = disk.free
        if not (self._folder / RESERVE).exists():
            # Not before there is room for both: else the reserve itself would be what fills the disk.
            if free < high_water + size:
                self._turn(admits=False, free=free)
                return
            self._make_reserve(size)
            free -= size
        self._turn(admits=free >= high_water, free=free)

    def _make_reserve(self, size: int) -> None:
        path = self._folder / RESERVE
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if size:
                os.posix_fallocate(handle, 0, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def _turn(self, *, admits: bool, free: int) -> None:
        if admits != self._admits:
            word = "disk_has_room" if admits else "disk_nearly_full"
            _logger.warning(word, extra={"free": free, "folder": str(self._folder)})
        self._admits = admits
