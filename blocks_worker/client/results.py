"""What a task brought: its artifacts, read and saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.artifacts import DownloadedArtifact, download_artifact, safe_file_name
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


def save_all(refs: Sequence[ArtifactRef], directory: str | PathLike[str]) -> list[Path]:
    """Write artifacts into a folder, which is made; return the paths.

    A name of the sender is cleaned and never leads out of the folder; nothing that is there is overwritten.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_new(folder, safe_file_name(ref.file_name, f"artifact-{index}"), download_artifact(ref).data)
        for index, ref in enumerate(refs)
    ]


def _write_new(folder: Path, name: str, data: bytes) -> Path:
    """Write under the name, or under it with ``-2``, ``-3`` before its extension.

    The file is created exclusively: whatever stands there, a link too, is left alone.
    """
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in range(1, _MOST_SAME_NAMES):
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise ArtifactError(f"{folder} holds too many files named like {name!r}; save into another folder")
