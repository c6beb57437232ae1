"""The parts of a request: made by hand, by helpers or as plain JSON, and put into what travels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.artifacts import BLOCKS_MAX_UPLOAD_BYTES, inline_artifact, should_inline_artifact
from blocks_worker.errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

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
    """One input of a task: text, or a file as bytes, under an id that the agent's card names."""

    part_id: str | None = None
    text: str | None = None
    content_type: str | None = None
    file: bytes | None = None
    file_name: str | None = None


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
    """Return a part that is a file, read now from a path or given as bytes.

    Raises:
        ValueError: it is larger than `BLOCKS_MAX_UPLOAD_BYTES`.
        OSError: the path cannot be read.
    """
    if isinstance(path_or_data, (bytes, bytearray)):
        data, default = bytes(path_or_data), "file"
    else:
        path = Path(path_or_data)
        _check_size(path.stat().st_size, part_id)
        data, default = path.read_bytes(), path.name
    _check_size(len(data), part_id)
    return SendMessageRequestPart(part_id, None, content_type, data, file_name or default)


def travelling_parts(parts: object, *, inline_limit: int) -> list[Any]:
    """Return the parts as the JSON values that travel; a bare text is one text part.

    Raises:
        ValueError: a file has no part id, or is larger than `inline_limit`.
        TypeError: the parts are no list.
    """
    if parts is None:
        return []
    return [_travelling(part, inline_limit) for part in _listed(parts)]


def _listed(parts: object) -> Sequence[object]:
    if isinstance(parts, str):
        return [text_part(parts)]
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


def _without_file(fields: dict[str, Any], inline_limit: int) -> dict[str, Any]:
    """Put a file's bytes into a reference that carries them."""
    if not isinstance(fields.get("file"), (bytes, bytearray, memoryview)):
        return fields
    data = bytes(fields.pop("file"))
    part_id = fields.get("partId")
    if not part_id:
        raise ValueError("a file needs a part id: SendMessageRequestPart(part_id=..., file=...)")
    _check_size(len(data), part_id)
    if not should_inline_artifact(len(data), inline_limit):
        raise ValueError(
            f"the file of part {part_id!r} is {len(data)} bytes; this version sends files up to {inline_limit} bytes "
            "(ARTIFACT_INLINE_LIMIT_BYTES)"
        )
    fields.pop("text", None)
    name = fields.pop("fileName", None) or "attachment"
    mime_type = fields.get("contentType") or _OCTETS
    ref = inline_artifact(data, mime_type=mime_type, file_name=name, limit=inline_limit)
    return {**fields, "contentType": mime_type, "artifactRef": ref.to_dict()}


def _check_size(size: int, part_id: object) -> None:
    if size > BLOCKS_MAX_UPLOAD_BYTES:
        raise ValueError(f"the file of part {part_id!r} is {size} bytes; at most {BLOCKS_MAX_UPLOAD_BYTES} are taken")
