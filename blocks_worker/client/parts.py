"""The parts of a request: made by hand, by helpers or as plain JSON, and put into what travels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blocks_worker.artifacts import BLOCKS_MAX_UPLOAD_BYTES, inline_artifact, should_inline_artifact
from blocks_worker.config import INLINE_LIMIT
from blocks_worker.errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from blocks_worker.protocol.events import ArtifactRef

_OCTETS = "application/octet-stream"
#: Both spellings of a part's fields, and what they are on the wire.
_FIELDS = {
    "part_id": "partId",
    "partId": "partId",
    "text": "text",
    "content_type": "contentType",
    "contentType": "contentType",
    "file": "file",
    "file_name": "fileName",
    "fileName": "fileName",
}


@dataclass(frozen=True)
class SendMessageRequestPart:
    """One input of a task: text, or a file as bytes or path, under an id that the agent's card names."""

    part_id: str | None = None
    text: str | None = None
    content_type: str | None = None
    file: bytes | Path | None = None
    file_name: str | None = None


@dataclass(frozen=True)
class LargeFile:
    """A file that does not fit into a message: it is stored at the hub, and its reference travels."""

    part_id: str
    content: bytes | Path
    mime_type: str
    file_name: str


class FileKeeper(Protocol):
    """Be what stores large files."""

    def __call__(self, file: LargeFile) -> ArtifactRef:
        """Store a file and return its reference."""


def text_part(text: str, part_id: str = "text") -> SendMessageRequestPart:
    """Return a part that is text."""
    return SendMessageRequestPart(part_id=part_id, text=text)


def json_part(value: object, part_id: str = "json") -> SendMessageRequestPart:
    """Return a part that is JSON text.

    Raises:
        ValueError: JSON cannot carry the value.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError("not_json", f"part {part_id!r} cannot be written as JSON: {error}") from error
    return SendMessageRequestPart(part_id=part_id, text=text, content_type="application/json")


def file_part(
    path_or_data: str | PathLike[str] | bytes | bytearray,
    *,
    part_id: str = "file",
    file_name: str | None = None,
    content_type: str = _OCTETS,
) -> SendMessageRequestPart:
    """Return a part that is a file, given as bytes or as a path.

    A small file is read now. A larger one is read when it is sent, by pieces, and never held whole.

    Raises:
        ValueError: it is larger than `BLOCKS_MAX_UPLOAD_BYTES`.
        OSError: the path cannot be read.
    """
    if isinstance(path_or_data, (bytes, bytearray)):
        _check_size(len(path_or_data), part_id)
        return SendMessageRequestPart(part_id, None, content_type, bytes(path_or_data), file_name or "file")
    path = Path(path_or_data).absolute()
    with path.open("rb") as file:
        size = path.stat().st_size
        _check_size(size, part_id)
        content = path if size > INLINE_LIMIT else file.read()
    return SendMessageRequestPart(part_id, None, content_type, content, file_name or path.name)


def travelling_parts(parts: object, *, inline_limit: int, keep: FileKeeper) -> list[Any]:
    """Return the parts as the JSON values that travel; a bare text is one text part.

    `keep` is called for files over the inline limit, after all parts were looked at.

    Raises:
        ValueError: a file has no part id, or is larger than `BLOCKS_MAX_UPLOAD_BYTES`.
        TypeError: the parts are no list.
        FileUploadError: a large file could not be stored.
    """
    if parts is None:
        return []
    if isinstance(parts, str):
        return [{"partId": "text", "text": parts}]
    ready = [_travelling(part, inline_limit) for part in _listed(parts)]
    return [_kept(part, keep) if isinstance(part, _PartWithFile) else part for part in ready]


def _listed(parts: object) -> Sequence[object]:
    if isinstance(parts, (SendMessageRequestPart, Mapping)):
        return [parts]
    if isinstance(parts, (list, tuple)):
        return parts
    raise TypeError(f"request_parts is a list of parts or a text, not {type(parts).__name__}")


def _travelling(part: object, inline_limit: int) -> object:
    if isinstance(part, SendMessageRequestPart):
        fields: dict[str, Any] = {
            "partId": part.part_id,
            "text": part.text,
            "contentType": part.content_type,
            "file": part.file,
            "fileName": part.file_name,
        }
        return _without_file({name: value for name, value in fields.items() if value is not None}, inline_limit)
    if isinstance(part, Mapping):
        return _without_file({_FIELDS.get(str(name), str(name)): value for name, value in part.items()}, inline_limit)
    return part


@dataclass(frozen=True)
class _PartWithFile:
    """A part whose file is still to be stored."""

    fields: dict[str, Any]
    file: LargeFile


def _kept(part: _PartWithFile, keep: FileKeeper) -> dict[str, Any]:
    return {**part.fields, "artifactRef": keep(part.file).to_dict()}


def _without_file(fields: dict[str, Any], inline_limit: int) -> dict[str, Any] | _PartWithFile:
    """Put a small file into a reference that carries it; mark a large one."""
    content = fields.get("file")
    if not isinstance(content, (bytes, bytearray, memoryview, Path)):
        return fields
    part_id = fields.get("partId")
    if not part_id:
        raise ValueError("a file needs a part id: SendMessageRequestPart(part_id=..., file=...)")
    size = content.stat().st_size if isinstance(content, Path) else memoryview(content).nbytes
    _check_size(size, part_id)
    name = str(fields.get("fileName") or (content.name if isinstance(content, Path) else "attachment"))
    mime_type = str(fields.get("contentType") or _OCTETS)
    kept = {key: value for key, value in fields.items() if key not in {"file", "fileName", "text"}}
    kept["contentType"] = mime_type
    if should_inline_artifact(size, inline_limit):
        data = content.read_bytes() if isinstance(content, Path) else bytes(content)
        ref = inline_artifact(data, mime_type=mime_type, file_name=name, limit=inline_limit)
        return {**kept, "artifactRef": ref.to_dict()}
    whole = content if isinstance(content, Path) else bytes(content)
    return _PartWithFile(kept, LargeFile(part_id, whole, mime_type, name))


def _check_size(size: int, part_id: object) -> None:
    if size > BLOCKS_MAX_UPLOAD_BYTES:
        raise ValueError(f"the file of part {part_id!r} is {size} bytes; at most {BLOCKS_MAX_UPLOAD_BYTES} are taken")
