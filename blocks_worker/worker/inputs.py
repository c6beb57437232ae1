"""What a task brings against what the card asks for: plain rules, before the handler is called."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any, NoReturn

from blocks_worker.artifacts import decode_inline_artifact
from blocks_worker.context.messages import parsed_json
from blocks_worker.errors import InputError
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.declared import is_json
from blocks_worker.protocol.parts import RequestPart
from blocks_worker.protocol.schemas import foreign_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.protocol.cards import Card, DeclaredInput
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.schemas import Schema

#: The name for bytes of whatever kind.
_BYTES = "application/octet-stream"
#: Most findings of a form that are told at once.
_TOLD = 5


class InputCheck:
    """Check the parts of tasks by the inputs of one card; made once, used by all slots.

    A part that the card does not name is nobody's affair here, and neither is any where it names none.
    """

    def __init__(self, card: Card) -> None:
        self._inputs = card.inputs
        self._schemas = {
            # A form is an object, whether or not its schema says so.
            each.id: foreign_schema({"type": "object", **each.schema})
            for each in card.inputs.values()
            if each.is_form and each.schema is not None
        }

    def check(self, task: StartTaskMessage, read: Callable[[RequestPart], bytes]) -> None:
        """Refuse a task whose input is not as the card says; `read` returns the bytes of a file.

        Raises:
            InputError: it names the part and the rule.
        """
        if not self._inputs:
            return
        brought: set[str] = set()
        for part in task.request_parts:
            declared = self._inputs.get(part.part_id or "") if isinstance(part, RequestPart) else None
            if declared is not None:
                brought.add(declared.id)
                self._check_part(declared, part, read)
        for declared in self._inputs.values():
            if declared.is_required and declared.id not in brought:
                _refuse(declared, "is missing; the card requires it")

    def _check_part(self, declared: DeclaredInput, part: RequestPart, read: Callable[[RequestPart], bytes]) -> None:
        ref = part.artifact_ref
        if part.text is None and ref is None and not (declared.is_form and part.extra):
            _refuse(declared, "is empty; send a text or a file with it")
        _check_type(declared, part)
        if declared.max_size is not None:
            size = _size(declared, part, ref)
            if size > declared.max_size:
                _refuse(declared, f"is {size} bytes; the card takes at most {declared.max_size} (maxSizeBytes)")
        schema = self._schemas.get(declared.id)
        if schema is not None:
            _check_form(declared, schema, _form(declared, part, ref, read))


def _check_type(declared: DeclaredInput, part: RequestPart) -> None:
    """Refuse a part whose content type, where it has one, is none of those that the card takes."""
    given = _type_of(part)
    if given is None:
        return
    taken = declared.accept or (declared.content_type,)
    if not any(_takes(one, given) for one in taken):
        rule = "accept" if declared.accept else "contentType"
        _refuse(declared, f"is {given[:128]!r}; the card takes {', '.join(taken)} ({rule})")


def _type_of(part: RequestPart) -> str | None:
    """Return what a part says it is; a file that only says "bytes" is what its name says."""
    spoken = part.mime_type
    if spoken is None:
        return None
    given, ref = spoken.partition(";")[0].strip().lower(), part.artifact_ref
    if given == _BYTES and ref is not None and ref.file_name:
        return mimetypes.guess_type(ref.file_name)[0] or given
    return given


def _takes(declared: str, given: str) -> bool:
    """Tell whether a content type is the declared one, or one of its kind: ``image/*``, any text as plain text."""
    kind, _, name = declared.partition("/")
    if name == "*" or declared == "text/plain":
        return given.startswith(f"{kind}/")
    if declared == _BYTES:
        return True
    return given == declared or (given == "application/json" and is_json(declared))


def _size(declared: DeclaredInput, part: RequestPart, ref: ArtifactRef | None) -> int:
    """Return the size of a part, as far as it is here: of a stored file its reference tells, which reading checks."""
    if ref is None:
        return len((part.text or "").encode("utf-8", errors="replace"))
    return len(_inline(declared, ref)) if ref.kind == "inline" else ref.size


def _inline(declared: DeclaredInput, ref: ArtifactRef) -> bytes:
    try:
        return decode_inline_artifact(ref)
    except ValueError as error:
        _refuse(declared, f"cannot be read: {error}")


def _form(
    declared: DeclaredInput, part: RequestPart, ref: ArtifactRef | None, read: Callable[[RequestPart], bytes]
) -> Any:
    """Return the value of a form: its text, its further keys, or its file."""
    if part.text is not None:
        return parsed_json(part.text, declared.id)
    if ref is None:
        return part.extra
    if ref.size > MAX_BODY:
        _refuse(declared, f"is {ref.size} bytes; a form has at most {MAX_BODY}")
    content = _inline(declared, ref) if ref.kind == "inline" else read(part)
    try:
        return parsed_json(content.decode("utf-8-sig"), declared.id)
    except UnicodeDecodeError as error:
        _refuse(declared, f"is not UTF-8: {error}")


def _check_form(declared: DeclaredInput, schema: Schema, value: Any) -> None:
    found = schema.find(value)
    if found:
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        _refuse(declared, f"does not fit its schema: {'; '.join(map(str, found[:_TOLD]))}{more}")


def _refuse(declared: DeclaredInput, text: str) -> NoReturn:
    raise InputError(f"part {declared.id!r} {text}", part_id=declared.id)
