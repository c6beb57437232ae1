"""What is said about files that are too large for an event: asking to send one, and what became of it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from blocks_worker.protocol.codec import Wire
from blocks_worker.protocol.events import ArtifactRef

#: Largest file that may be handed over, in bytes.
MAX_UPLOAD = 26_214_400
#: Bytes of one piece on its way; nobody holds more than three of them at once.
PIECE = 64 * 1024

FileRole = Literal["consumer-input", "provider-output"]

_Name = Annotated[str, msgspec.Meta(max_length=1024)]
_Label = Annotated[str, msgspec.Meta(max_length=255)]
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class RequestUpload(Wire):
    """Ask to send a file: an input of a task to come, or an output of the run that asks."""

    role: FileRole
    file_size: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    file_name: _Name | None = None
    mime_type: _Label = "application/octet-stream"
    sha256: _Sha256 | None = None
    #: Of an input.
    agent_name: _Label | None = None
    upload_session_id: _Label | None = None
    part_id: _Name | None = None
    #: Of an output: its run.
    task_id: _Label | None = None
    epoch: int | None = None
    output_id: _Name | None = None


class UploadOffer(Wire, omit_defaults=False):
    """Where the bytes go: `upload_url` is an address at the hub that answered, and a secret; it works for one file."""

    upload_id: str
    upload_url: str
    upload_session_id: str | None = None
    method: str = "PUT"


class UploadProgress(Wire, omit_defaults=False):
    """Say how much of a file is there: the rest of its `size` is sent from `offset` on."""

    upload_id: str
    offset: int
    size: int


class ConfirmUpload(Wire):
    """Ask whether all of a file is there."""

    upload_id: str


class UploadDone(Wire, omit_defaults=False):
    """Say that all of a file is there, and how to refer to it."""

    upload_id: str
    artifact_ref: ArtifactRef
