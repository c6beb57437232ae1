"""Files on the hub's disk: written beside their place as they come, moved there whole, named by keys of its own."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
from typing import TYPE_CHECKING, BinaryIO

from blocks_worker.hub.problems import CONFLICT, NO_ROOM, TOO_LARGE, RefusalError
from blocks_worker.protocol.files import PIECE
from blocks_worker.state import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_logger = logging.getLogger(__name__)

_NOT_AS_SAID = 422
#: What the system says when nothing more can be written: the disk, the quota, or the limit of this process.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileStore:
    """Own one folder. Its verbs touch the disk: none of them belongs on the loop.

    Who sends a file last writes it: a connection that was cut may be noticed here later than by its sender.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._incoming: dict[str, Incoming] = {}

    def receive(self, key: str, *, first: int, size: int, sha256: str | None) -> Incoming:
        """Write a file of this size, and of this content when that is known, from one byte on: 0 begins anew.

        Raises:
            RefusalError: 409, not so much of it is here, or more; 507, there is no room.
        """
        with _Full():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock:
                if (older := self._incoming.get(key)) is not None:
                    older.give_way()
                self._incoming[key] = made = Incoming(self._draft(key), self._folder / key, size=size, sha256=sha256)
            try:
                made.go_on(first)
            except BaseException:
                self.leave(key, made)
                raise
            return made

    def leave(self, key: str, incoming: Incoming) -> None:
        """Let go of a file, whole or not; what was written stays."""
        incoming.close()
        with self._lock:
            if self._incoming.get(key) is incoming:
                del self._incoming[key]

    def give_up(self, key: str, incoming: Incoming) -> None:
        """Let go of a file that will never be whole, and take away what was written."""
        with self._lock:
            if self._incoming.get(key) is incoming:
                self._draft(key).unlink(missing_ok=True)
        self.leave(key, incoming)

    def length(self, key: str) -> int:
        """Return how much of a file that is not whole yet is here."""
        try:
            return self._draft(key).stat().st_size
        except FileNotFoundError:
            return 0

    def open(self, key: str) -> BinaryIO | None:
        """Return a file to read; None when it is not there."""
        try:
            return (self._folder / key).open("rb", buffering=0)
        except FileNotFoundError:
            return None

    def remove(self, keys: Sequence[str]) -> None:
        """Take files away, whole or half."""
        for key in keys:
            for path in (self._draft(key), self._folder / key):
                path.unlink(missing_ok=True)

    def _draft(self, key: str) -> Path:
        return self._folder / f"{key}.part"


class Incoming:
    """Be a file on its way in: `go_on` from somewhere, `write` its pieces, then `finish`; `close` it in any case.

    Whoever else comes to send the same file closes it from another thread: not a byte is written afterwards.
    """

    def __init__(self, draft: Path, place: Path, *, size: int, sha256: str | None) -> None:
        self._draft = draft
        self._place = place
        self._size = size
        self._wanted = sha256
        self._digest = hashlib.sha256()
        self._written = 0
        self._is_whole = False
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(draft, flags, 0o600), "r+b", buffering=0)

    def go_on(self, first: int) -> None:
        """Read what is here, for the hash is of all of it; the next byte is the one behind.

        Raises:
            RefusalError: 409, that is not `first`.
        """
        with self._lock:
            self._check_open()
            if first == 0:
                self._file.truncate(0)
            elif self._written_before() != first:
                here = self._written_before()
                text = f"{here} bytes of this file are here: go on from there"
                raise RefusalError(CONFLICT, "OtherOffset", text, details={"offset": here})
            for piece in pieces_of(self._file, 0, first):
                self._digest.update(piece)
            self._written = first

    def write(self, piece: bytes) -> None:
        """Write the next bytes.

        Raises:
            RefusalError: 409, somebody else sends them now; 413, they are more than was said; 507, there is no room.
        """
        with self._lock:
            self._check_open()
            self._append(piece)

    def _append(self, piece: bytes) -> None:
        self._written += len(piece)
        if self._written > self._size:
            text = f"more than the {self._size} bytes that were said are coming"
            raise RefusalError(TOO_LARGE, "InvalidInput", text, details={"reason": "too_large"})
        with _Full():
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
        self._digest.update(piece)

    def finish(self) -> str:
        """Put the whole file in its place, safe from a power cut; return its SHA-256.

        Raises:
            RefusalError: 409, somebody else sends it now; 422, it is not what was said; 507, there is no room.
        """
        with self._lock:
            self._check_open()
            found = self._moved()
            self._is_whole = True
            return found

    def _moved(self) -> str:
        found = self._digest.hexdigest()
        if self._written != self._size:
            raise _not_as_said("size", f"{self._written} bytes came where {self._size} were said")
        if self._wanted is not None and found != self._wanted:
            raise _not_as_said("hash", "the SHA-256 of what came is not the one that was said")
        with _Full():
            os.fsync(self._file.fileno())
            self._file.close()
            self._draft.replace(self._place)
            sync_folder(self._place.parent)
        return found

    def close(self) -> None:
        """Write nothing more; what was written stays."""
        with self._lock:
            self._file.close()

    def give_way(self) -> None:
        """Be closed because somebody else sends the same file.

        Raises:
            RefusalError: 409, it is whole, and about to be recorded.
        """
        with self._lock:
            if self._is_whole:
                raise RefusalError(CONFLICT, "OtherOffset", "all of this file is here: ask to have it confirmed")
            self._file.close()

    def _check_open(self) -> None:
        if self._file.closed:
            text = "somebody else sends this file now: ask how much of it is here, then go on from there"
            raise RefusalError(CONFLICT, "OtherOffset", text)

    def _written_before(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def pieces_of(file: BinaryIO, first: int, size: int) -> Iterator[bytes]:
    """Yield so many bytes of a file from one place on, piece by piece."""
    file.seek(first)
    while size > 0:
        piece = file.read(min(PIECE, size))
        if not piece:
            raise EOFError("the file is shorter than its row says")
        size -= len(piece)
        yield piece


def _not_as_said(reason: str, text: str) -> RefusalError:
    return RefusalError(_NOT_AS_SAID, "NotAsSaid", f"{text}: ask for another upload", details={"reason": reason})


class _Full:
    """Turn a full disk into a refusal."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            _logger.error("file_disk_full", extra={"reason": error.strerror})
            text = "the hub's disk is full: nothing new is taken until there is room"
            raise RefusalError(NO_ROOM, "NoRoom", text) from error
