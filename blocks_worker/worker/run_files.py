"""The files of one run: an output too large for an event is stored first, a stored input is fetched."""

from __future__ import annotations

import io
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.artifacts import inline_artifact, should_inline_artifact
from blocks_worker.controlplane.files import patience_while, pieces_of, store_file
from blocks_worker.errors import (
    ArtifactError,
    AuthRefreshFailedError,
    FileUploadError,
    HubUnavailableError,
    RpcError,
    TaskFinishedError,
)
from blocks_worker.protocol.files import MAX_UPLOAD, RequestUpload

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.files import Again, FileApi
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.worker.run import Run

_FENCED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})


class RunFiles:
    """Store and fetch for one run.

    A hub that does not answer is waited for as long as the run may speak: its end by a limit, a lost lease or
    the worker's own end is the end of the waiting too.
    """

    def __init__(self, api: FileApi, run: Run, *, inline_limit: int, clock: Clock, entropy: Entropy) -> None:
        self._api = api
        self._run = run
        self._inline_limit = inline_limit
        self._clock = clock
        self._entropy = entropy

    def store(
        self,
        data: bytes | Path,
        *,
        mime_type: str,
        file_name: str | None = None,
        output_id: str | None = None,
    ) -> ArtifactRef:
        """Return the reference to an output, which carries it when it is small and else says where it is stored.

        Raises:
            ArtifactError: it cannot be stored.
            TaskFinishedError: the run is over.
        """
        size = _size_of(data)
        if should_inline_artifact(size, self._inline_limit):
            content = data.read_bytes() if isinstance(data, Path) else data
            return inline_artifact(content, mime_type=mime_type, file_name=file_name, limit=self._inline_limit)
        if size > MAX_UPLOAD:
            raise ArtifactError(f"an artifact of {size} bytes is larger than the {MAX_UPLOAD} allowed; split it")
        about = RequestUpload(
            role="provider-output",
            file_name=file_name,
            mime_type=mime_type,
            task_id=self._run.task_id,
            epoch=self._run.epoch,
            output_id=output_id,
        )
        try:
            return store_file(self._api, data, about, self._again()).artifact_ref
        except FileUploadError as error:
            if self._is_over() or error.status_code in _FENCED:
                raise TaskFinishedError(self._run.task_id) from error
            raise ArtifactError(str(error)) from error
        except AuthRefreshFailedError as error:
            raise ArtifactError(f"the file could not be stored: {error}") from error

    def fetch(self, ref: ArtifactRef) -> bytes:
        """Return a stored input.

        Raises:
            ArtifactError: it is not there, or not what its reference says.
            TaskFinishedError: the run is over.
        """
        try:
            whole = io.BytesIO()
            for piece in pieces_of(self._api, ref, self._again()):
                whole.write(piece)
            return whole.getvalue()
        except (RpcError, HubUnavailableError, AuthRefreshFailedError) as error:
            if self._is_over():
                raise TaskFinishedError(self._run.task_id) from error
            raise ArtifactError(f"the file of this part could not be fetched: {error}") from error

    def _again(self) -> Again:
        if self._is_over():
            raise TaskFinishedError(self._run.task_id)
        return patience_while(self._clock, self._entropy, lambda: not self._is_over())

    def _is_over(self) -> bool:
        return not self._run.outbox.is_open


def _size_of(data: bytes | Path) -> int:
    try:
        return data.stat().st_size if isinstance(data, Path) else len(data)
    except OSError as error:
        raise ArtifactError(f"the file cannot be read: {error.strerror or error}") from error
