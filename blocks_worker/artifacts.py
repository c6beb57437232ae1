"""Artifacts: made to travel inside an event, read back from it or from the file store, and given harmless names."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from blocks_worker.config import INLINE_LIMIT
from blocks_worker.controlplane.files import check_hash
from blocks_worker.controlplane.presigned import presigned_upload_flow
from blocks_worker.errors import ArtifactError, FileUploadError
from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.files import MAX_UPLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike

__all__ = [
    "BLOCKS_MAX_UPLOAD_BYTES",
    "ArtifactRef",
    "DownloadedArtifact",
    "FileReader",
    "FileUploadError",
    "artifact_pieces",
    "as_ref",
    "build_artifact_ref",
    "decode_inline_artifact",
    "download_artifact",
    "inline_artifact",
    "presigned_upload_flow",
    "safe_file_name",
    "should_inline_artifact",
]

#: Largest file that may be handed over, in bytes.
BLOCKS_MAX_UPLOAD_BYTES = MAX_UPLOAD
#: Longest file name that is written, in bytes: what common file systems take, with room for ``-999``.
_NAME_BYTES = 200
_SEPARATORS = re.compile(r"[/\\]")
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f]')
#: Names that some systems give to devices, with or without an extension.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class DownloadedArtifact:
    """The bytes of an artifact, with what they are."""

    data: bytes
    mime_type: str = "application/octet-stream"
    file_name: str | None = None

    def text(self) -> str:
        """Return the bytes as text.

        Raises:
            ArtifactError: they are not UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError(f"the artifact is not UTF-8 text: {error.reason} at byte {error.start}") from error

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the bytes to a path of the caller's choice, and return it."""
        target = Path(path)
        target.write_bytes(self.data)
        return target


def should_inline_artifact(size_bytes: int, inline_limit: int | None = None) -> bool:
    """Tell whether an artifact of this size travels inside its event."""
    return size_bytes <= (INLINE_LIMIT if inline_limit is None else inline_limit)


def inline_artifact(
    data: bytes, *, mime_type: str, file_name: str | None = None, limit: int = INLINE_LIMIT
) -> ArtifactRef:
    """Return the reference that carries these bytes inside itself.

    Raises:
        ArtifactError: they are more than `limit`.
    """
    if not should_inline_artifact(len(data), limit):
        raise ArtifactError(
            f"the artifact is {len(data)} bytes where {limit} fit into an event; "
            "return less, or raise ARTIFACT_INLINE_LIMIT_BYTES"
        )
    return ArtifactRef(
        kind="inline",
        mime_type=mime_type,
        size=len(data),
        hash=hashlib.sha256(data).hexdigest(),
        data=base64.b64encode(data).decode("ascii"),
        file_name=file_name,
    )


def build_artifact_ref(
    *,
    data: bytes | None = None,
    mime_type: str = "application/octet-stream",
    size: int | None = None,
    hash: str | None = None,  # noqa: A002 - the name which users know
    file: Mapping[str, Any] | None = None,
    file_name: str | None = None,
    inline_limit: int | None = None,
) -> dict[str, Any]:
    """Return a reference as the dict that travels; without `file` it carries the data inside.

    A `file` is told by its `id`, `name`, `channel` and `expires_at` (unix milliseconds); data of at most
    `inline_limit` bytes travels inside all the same. `size` and `hash` win over those of the data.
    """
    content = data or b""
    if file is None or (data is not None and inline_limit is not None and len(content) <= inline_limit):
        ref = inline_artifact(content, mime_type=mime_type, file_name=file_name, limit=len(content))
    else:
        ref = ArtifactRef(
            kind="file",
            mime_type=mime_type,
            size=len(content),
            hash=hashlib.sha256(content).hexdigest() if data is not None else None,
            file_name=file_name or file.get("name"),
            channel=file.get("channel"),
            file_id=file.get("id"),
            expires_at=file.get("expires_at"),
        )
    return {**ref.to_dict(), "size": ref.size if size is None else size, **({"hash": hash} if hash else {})}


def decode_inline_artifact(ref: ArtifactRef | Mapping[str, Any]) -> bytes:
    """Return the bytes that a reference carries.

    Raises:
        ArtifactError: a ValueError: it carries none, or not what its hash says.
    """
    known = as_ref(ref)
    if not known.data:
        if known.kind == "inline" and known.data is not None and known.size == 0:
            return b""
        raise ArtifactError("the artifact carries no data: it is empty or was stored elsewhere")
    try:
        data = base64.b64decode(known.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArtifactError(f"the artifact's data is not base64: {error}") from error
    check_hash(known, hashlib.sha256(data).hexdigest())
    return data


@runtime_checkable
class FileReader(Protocol):
    """Be what reads the file store: a `TaskClient` or a `TaskSession`."""

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored file by pieces, checked at its end."""


def download_artifact(ref: ArtifactRef | Mapping[str, Any], source: object = None) -> DownloadedArtifact:
    """Return the artifact of a reference; `source` is a client or session, which one that travels inside needs not.

    Raises:
        ArtifactError: it is not what its hash says, or kept in the file store and `source` cannot read that.
        RpcError, HubUnavailableError: the hub refused to hand it out, or did not answer.
    """
    known = as_ref(ref)
    if known.kind == "inline":
        return DownloadedArtifact(decode_inline_artifact(known), known.mime_type, known.file_name)
    # Grows in one place and hands that over: joining a list of pieces would hold all of it twice.
    whole = io.BytesIO()
    for piece in artifact_pieces(known, source):
        whole.write(piece)
    return DownloadedArtifact(whole.getvalue(), known.mime_type, known.file_name)


def artifact_pieces(ref: ArtifactRef, source: object) -> Iterator[bytes]:
    """Yield the artifact of a reference by pieces; an error may come after the first."""
    if ref.kind == "inline":
        yield decode_inline_artifact(ref)
    elif isinstance(source, FileReader):
        yield from source.file_pieces(ref)
    else:
        raise ArtifactError("the artifact is kept in the file store: hand over the TaskClient or TaskSession as well")


def as_ref(ref: ArtifactRef | Mapping[str, Any]) -> ArtifactRef:
    """Return a reference, given as one or as the dict that travels."""
    return ref if isinstance(ref, ArtifactRef) else convert(ArtifactRef, dict(ref))


def safe_file_name(name: str | None, default: str) -> str:
    """Return the cleaned last component of a name, which stays in its folder on every system.

    Separators of all systems, drives and streams (``:``), control and bidirectional characters, names of
    devices, dots at either end and what is longer than a file system takes are gone; `default` stands for
    what leaves nothing.
    """
    if name is None:
        return default
    last = _SEPARATORS.split(unicodedata.normalize("NFC", name))[-1]
    last = last.rsplit(":", 1)[-1]
    visible = "".join(
        char for char in last if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )
    clean = _shortened(_FORBIDDEN.sub("_", visible).strip(" .").lstrip("~-"))
    if not clean or not any(char.isalnum() for char in clean):
        return default
    return f"_{clean}" if _DEVICES.match(clean) else clean


def _shortened(name: str) -> str:
    """Cut a name to what a file system takes; a short extension stays."""
    if len(name.encode("utf-8")) <= _NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    kept = f"{dot}{extension}" if stem and len(extension) <= 10 else ""  # noqa: PLR2004 - characters of an extension
    room = _NAME_BYTES - len(kept.encode("utf-8"))
    head = (stem if kept else name).encode("utf-8")[:room].decode("utf-8", errors="ignore")
    return head.rstrip(" .") + kept
