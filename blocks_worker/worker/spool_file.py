"""One file of spooled records: private, locked by the process that writes it, whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from blocks_worker.processes import keep_from_children
from blocks_worker.state import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUFFIX = ".spool"


class SpoolFile:
    """Append records, one a line, and make them durable.

    The file comes to be with its lock held, so that another process that gets the lock knows: the writer is dead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        self._handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._is_open = True
        keep_from_children(self)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
            sync_folder(path.parent)
        except BaseException:
            self._is_open = False
            os.close(self._handle)
            draft.unlink(missing_ok=True)
            raise
        self._size = 0

    def leave_to_parent(self) -> list[int]:
        """Give up the file with its lock, which a forked child shares and may outlive us with."""
        was_open, self._is_open = self._is_open, False
        return [self._handle] if was_open else []

    def append(self, records: Sequence[bytes]) -> None:
        """Add all the records or none.

        Raises:
            OSError: the disk did not take them.
        """
        text = b"".join(record + b"\n" for record in records)
        try:
            written = 0
            while written < len(text):
                written += os.write(self._handle, text[written:])
            os.fsync(self._handle)
        except OSError:
            # Half a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(text)

    def clear(self) -> None:
        """Forget the records."""
        os.ftruncate(self._handle, 0)
        self._size = 0

    def close(self) -> None:
        """Let go of the file, which stays only when there is something in it."""
        if self._size == 0:
            self._path.unlink(missing_ok=True)
        self._is_open = False
        os.close(self._handle)


@contextlib.contextmanager
def left_behind(path: Path) -> Iterator[list[bytes] | None]:
    """Yield the whole lines of a file whose writer is dead, held until the end; None when he lives or it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield None
    else:
        with os.fdopen(os.dup(handle), "rb") as file:
            text = file.read()
        # What follows the last line's end was being written when the process died.
        yield text.split(b"\n")[:-1]
    finally:
        os.close(handle)
