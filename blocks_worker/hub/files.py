"""Files on the hub's disk: written beside their place, moved there whole, named by keys of the hub's own."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from typing import TYPE_CHECKING, BinaryIO

from blocks_worker.hub.problems import NO_ROOM, TOO_LARGE, RefusalError
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
    """Own one folder. Its verbs touch the disk: none of them belongs on the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def receive(self, key: str, *, size: int, sha256: str | None) -> Incoming:
        """Begin to write a file of this size, and of this content when that is known.

        Raises:
            RefusalError: 507, there is no room.
        """
        with _Full():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Incoming(self._draft(key), self._folder / key, size=size, sha256=sha256)

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
    """Be a file on its way in: `write` its pieces, then `finish`, or `abandon` it."""

    def __init__(self, draft: Path, place: Path, *, size: int, sha256: str | None) -> None:
        self._draft = draft
        self._place = place
        self._size = size
        self._wanted = sha256
        self._digest = hashlib.sha256()
        self._written = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(draft, flags, 0o600), "wb", buffering=0)

    def write(self, piece: bytes) -> None:
        """Write the next bytes.

        Raises:
            RefusalError: 413, they are more than was said; 507, there is no room.
        """
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
            RefusalError: 422, it is not what was said; 507, there is no room.
        """
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

    def abandon(self) -> None:
        """Take away what was written; harmless after `finish`."""
        self._file.close()
        self._draft.unlink(missing_ok=True)


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
