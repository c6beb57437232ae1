"""One file to which lines are only ever added, private to its user and bounded: full, it is put aside whole."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Bytes of the file before it is put aside, and how many such files are kept.
MOST_BYTES = 4 * 1024 * 1024
KEPT = 4

_logger = logging.getLogger(__name__)


class Journal:
    """Add lines to a file; any thread may.

    The file is opened for each addition and not kept open: it may be taken away or archived at any time. It is not
    synced, as the death of the process loses nothing, and the ledger syncs what must outlive that of the machine.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        #: Lines that could not be written, since the start.
        self.lost = 0

    def add(self, lines: Sequence[str]) -> None:
        """Add lines. A disk that takes none stops nobody: they are counted, and the first is told in the log."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", errors="backslashreplace")
        with self._lock:
            try:
                self._append(data)
            except OSError as error:
                failure: OSError | None = error
                self.lost += len(lines)
                first = self.lost == len(lines)
            else:
                return
        if first:
            _logger.warning("journal_failed", extra={"file": self._path.name, "reason": str(failure)})

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._path, flags, 0o600)
        try:
            os.fchmod(handle, 0o600)
            while data:
                data = data[os.write(handle, data) :]
            full = os.fstat(handle).st_size >= self._most_bytes
        finally:
            os.close(handle)
        if full:
            self._put_aside()

    def _put_aside(self) -> None:
        """Make room: the oldest file goes, each other one grows a number older."""
        for number in range(KEPT, 1, -1):
            younger = self._numbered(number - 1)
            if younger.exists():
                younger.replace(self._numbered(number))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
