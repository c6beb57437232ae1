"""What a task brought: its artifacts, read and saved."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks_worker.artifacts import DownloadedArtifact, artifact_pieces, safe_file_name
from blocks_worker.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from blocks_worker.protocol.events import ArtifactRef

#: Tries to find a name that is free.
_MOST_SAME_NAMES = 10_000


@dataclass(frozen=True)
class TaskResult:
    """The artifacts of a task that completed, in order."""

    task_id: str
    artifacts: list[DownloadedArtifact]

    @property
    def text(self) -> str:
        """The artifacts as text, one after another on lines of their own; empty when there is none."""
        return "\n".join(artifact.text() for artifact in self.artifacts)

    def json(self) -> Any:
        """Return what the one artifact holds as JSON; of several, a list of what each holds.

        Raises:
            ArtifactError: there is no artifact, or it is not JSON.
        """
        if not self.artifacts:
            raise ArtifactError(f"task {self.task_id} returned nothing, so there is no JSON to read")
        read = [self._read(artifact) for artifact in self.artifacts]
        return read[0] if len(read) == 1 else read

    @staticmethod
    def _read(artifact: DownloadedArtifact) -> Any:
        try:
            return json.loads(artifact.data)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"the artifact is not JSON: {error}") from error


def save_all(refs: Sequence[ArtifactRef], directory: str | PathLike[str], source: object = None) -> list[Path]:
    """Write artifacts into a folder, which is made; return the paths.

    A name of the sender is cleaned and never leads out of the folder; nothing that is there is overwritten, and
    what could not be read to its end leaves no file. `source` reads those that are kept in the file store.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    # Held open: whoever puts a link in the folder's place meanwhile gets nothing.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [
            folder / _write_new(handle, safe_file_name(ref.file_name, f"artifact-{index}"), ref, source)
            for index, ref in enumerate(refs)
        ]
    finally:
        os.close(handle)


def _write_new(folder: int, name: str, ref: ArtifactRef, source: object) -> str:
    """Write under the name, or under it with ``-2``, ``-3`` before its extension, and return which it was.

    The file is created exclusively: whatever stands there, a link too, is left alone.
    """
    taken = _create_new(folder, name)
    file = os.fdopen(taken.handle, "wb")
    try:
        with file:
            for piece in artifact_pieces(ref, source):
                file.write(piece)
    except BaseException:
        os.unlink(taken.name, dir_fd=folder)
        raise
    return taken.name


class _Taken(NamedTuple):
    """A name in a folder, and the open new file under it."""

    name: str
    handle: int


def _create_new(folder: int, name: str) -> _Taken:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in range(1, _MOST_SAME_NAMES):
        free = name if number == 1 else f"{stem}-{number}{suffix}"
        try:
            return _Taken(free, os.open(free, flags, 0o666, dir_fd=folder))
        except FileExistsError:
            continue
    raise ArtifactError(f"the folder holds too many files named like {name!r}; save into another folder")
