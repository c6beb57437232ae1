"""A file that is sent: as many bytes of it as were announced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import ArtifactError

if TYPE_CHECKING:
    from typing import BinaryIO


class Exactly:
    """Read a file up to the length that was announced for it, and not a byte less."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        """Return the next bytes; nothing once all that was announced is read."""
        try:
            piece = self._file.read(min(size, self._left))
        except OSError as error:
            raise ArtifactError(f"the file cannot be read: {error.strerror or error}") from error
        if self._left and not piece:
            raise ArtifactError("the file became shorter while it was sent")
        self._left -= len(piece)
        return piece
