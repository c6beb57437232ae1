"""What a handler returned becomes artifacts and warnings: every form is known, or named in a warning.

Whole numbers are written digit for digit, however large. NaN, infinities, half characters (lone
surrogates) and what JSON does not know are refused with an `ArtifactError`. Nothing here waits, and
nothing a foreign object does gets out as another exception; only a generator's own exception does,
because the generator is the handler still running.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import mimetypes
from dataclasses import dataclass, field
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from blocks_worker.artifacts import BLOCKS_MAX_UPLOAD_BYTES
from blocks_worker.config import INLINE_LIMIT
from blocks_worker.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

TEXT = "text/plain"
JSON = "application/json"
BINARY = "application/octet-stream"

#: Bytes of one artifact.
MAX_BYTES = BLOCKS_MAX_UPLOAD_BYTES
#: Values of a generator that become one JSON list.
MAX_VALUES = 100_000
#: Warnings of one result; the rest is counted.
MAX_WARNINGS = 20
#: Characters of a name or type that an entry may give.
_MAX_LABEL = 255
#: Not printable by Python's rule, yet parts of honest names: other spaces, joiners of emoji and Persian.
_INVISIBLE = "\u00a0\u202f\u3000\u200c\u200d"
_SPELLINGS = {"mime_type": "mimeType", "file_name": "fileName", "output_id": "outputId"}
_LABELS = ("mimeType", "fileName", "outputId")
_BYTES_LIKE = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class OutArtifact:
    """One artifact of a result; a large file is told by its path, and read when it is sent."""

    data: bytes | Path
    mime_type: str
    file_name: str | None = None
    output_id: str | None = None


@dataclass(frozen=True)
class Result:
    """The artifacts of a result in order, and a sentence for each thing that was left out."""

    artifacts: list[OutArtifact]
    warnings: list[str]


def normalise(
    returned: object, *, outputs: frozenset[str] = frozenset(), guaranteed: frozenset[str] = frozenset()
) -> Result:
    """Return the artifacts and warnings that a handler's return value means.

    Args:
        returned: what the handler returned.
        outputs: the output ids of the card; empty: any id is right.
        guaranteed: those of them that every result has to hold.

    Raises:
        ArtifactError: a value cannot be written: not JSON, not text, too large, not a file.
    """
    if isinstance(returned, GeneratorType):
        return _Collector(outputs, guaranteed, [OutArtifact(_json_list(returned), JSON)]).result()
    collector = _Collector(outputs, guaranteed)
    try:
        collector.take(returned)
        return collector.result()
    except ArtifactError:
        raise
    except Exception as error:
        # The object is the user's: each of its methods may raise anything.
        raise ArtifactError(f"the result, {_a(returned)}, cannot be read: {_said(error)}") from error


@dataclass
class _Collector:
    """Gather the artifacts and warnings of one result."""

    outputs: frozenset[str]
    guaranteed: frozenset[str]
    artifacts: list[OutArtifact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unsaid: int = 0

    def result(self) -> Result:
        if self.guaranteed:
            missing = self.guaranteed - {artifact.output_id for artifact in self.artifacts}
            for output_id in sorted(missing):
                self._warn(f"the result lacks output {output_id!r}, which the card guarantees")
        if self.unsaid:
            self.warnings.append(f"{self.unsaid} more warnings like these")
        return Result(self.artifacts, self.warnings)

    def take(self, returned: object) -> None:
        if returned is None:
            return
        if isinstance(returned, dict):
            self._take_dict(returned)
        elif isinstance(returned, (list, tuple)):
            self._take_list(returned)
        else:
            artifact = _single(returned)
            if artifact is None:
                self._refuse(returned)
            else:
                self.artifacts.append(artifact)

    def _take_dict(self, returned: dict[Any, Any]) -> None:
        if "artifacts" in returned:
            self._name_others(returned, ("artifacts",), "'artifacts'")
            self._take_artifacts(returned["artifacts"])
        elif "artifact" in returned:
            self._name_others(returned, ("artifact", *_LABELS, *_SPELLINGS), "'artifact'")
            self._take_one(returned)
        else:
            self.artifacts.append(OutArtifact(to_json(returned), JSON))

    def _take_artifacts(self, entries: object) -> None:
        if isinstance(entries, (list, tuple)):
            for entry in entries:
                if isinstance(entry, dict):
                    self._take_entry(entry)
                else:
                    self._take_bare(entry)
        else:
            self._warn(f"'artifacts' is {_a(entries)}, not a list of entries: left out")

    def _take_bare(self, entry: object) -> None:
        """Take an entry of ``artifacts``: a text, bytes or a path is taken there as if it was returned alone."""
        artifact = _single(entry) if isinstance(entry, (str, Path, *_BYTES_LIKE)) else None
        if artifact is None:
            self._take_entry(entry)
        else:
            self.artifacts.append(artifact)

    def _take_one(self, returned: dict[Any, Any]) -> None:
        """Take the old form with one artifact, whose labels may stand beside it."""
        inner = returned["artifact"]
        labels = {key: value for key, value in returned.items() if key in _LABELS or key in _SPELLINGS}
        if not isinstance(inner, dict):
            self._take_entry({**labels, "data": inner})
        elif "data" in inner:
            self._take_entry({**_spelled(labels), **_spelled(inner)})
        else:
            self._warn("'artifact' is an entry without 'data': left out")

    def _take_list(self, entries: Sequence[object]) -> None:
        """Take a list of entries; one that holds no entry at all is one unknown shape."""
        if entries and not any(isinstance(entry, dict) for entry in entries):
            self._warn(f"the handler returned {_a(entries)} of {_type(entries[0])}, not of entries: left out")
            return
        for entry in entries:
            self._take_entry(entry)

    def _take_entry(self, entry: object) -> None:
        if not isinstance(entry, dict):
            self._warn(f"an entry of the result is {_a(entry)}, not a dict with 'data': left out")
            return
        if not _SPELLINGS.keys().isdisjoint(entry):
            entry = _spelled(entry)
        if "data" not in entry:
            self._warn("an entry of the result has no 'data': left out")
            return
        data, usual = _entry_data(entry["data"])
        if data is None:
            self._warn(f"'data' of an entry is {_a(entry['data'])}: left out")
            return
        self._name_others(entry, ("data", *_LABELS), "'data' of an entry")
        mime_type, file_name, output_id = [self._label(key, entry[key]) if key in entry else None for key in _LABELS]
        if output_id is not None and self.outputs and output_id not in self.outputs:
            self._warn(f"output {output_id!r} is not one of the card's: {', '.join(sorted(self.outputs))}")
        self.artifacts.append(OutArtifact(data, mime_type or usual, file_name, output_id))

    def _label(self, key: str, value: object) -> str | None:
        """Return a label that can travel; another one is left out, the data are not."""
        if value is None or (isinstance(value, str) and _is_label(value)):
            return value
        what = _short(value) if isinstance(value, str) else _a(value)
        self._warn(f"{key!r} of an entry is {what}, not a short text without control characters: left out")
        return None

    def _name_others(self, found: dict[Any, Any], known: tuple[str, ...], beside: str) -> None:
        for key in found:
            if key not in known:
                self._warn(f"unknown key {_short(key)} beside {beside}: left out")

    def _refuse(self, returned: object) -> None:
        if inspect.iscoroutine(returned):
            returned.close()  # nobody will await it, and Python would complain
            self._warn("the handler returned a coroutine: make the handler 'async def', or await it; left out")
        else:
            self._warn(f"the handler returned {_a(returned)}, which no artifact can be made of: left out")

    def _warn(self, text: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)
        else:
            self.unsaid += 1


def to_json(value: object) -> bytes:
    """Return the value as JSON, with dataclasses and pydantic models inside as objects.

    Raises:
        ArtifactError: it holds what JSON cannot carry, or is too large.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_object)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(f"{_a(value)} cannot be written as JSON: {_said(error)}") from error
    return _utf8(text)


def _single(returned: object) -> OutArtifact | None:
    """Return the one artifact that the value means, or None when it means none."""
    if isinstance(returned, str):
        return OutArtifact(_utf8(returned), TEXT)
    if isinstance(returned, _BYTES_LIKE):
        return OutArtifact(_binary(returned), BINARY)
    if isinstance(returned, Path):
        return _file(returned)
    if _is_model(returned):
        return OutArtifact(_model_json(returned), JSON)
    if _is_dataclass(returned):
        return OutArtifact(to_json(returned), JSON)
    return None


def _entry_data(data: object) -> tuple[bytes | None, str]:
    """Return the bytes of an entry and the type it has when it names none."""
    if isinstance(data, str):
        return _utf8(data), BINARY
    if isinstance(data, _BYTES_LIKE):
        return _binary(data), BINARY
    if isinstance(data, (dict, list)):
        return to_json(data), JSON
    return None, BINARY


def _json_list(values: Generator[Any, Any, Any]) -> bytes:
    """Return what a generator yields as one JSON list, which is counted while it grows."""
    pieces: list[bytes] = []
    size = 2
    try:
        for value in values:
            pieces.append(to_json(value))
            size += len(pieces[-1]) + 1
            if len(pieces) > MAX_VALUES:
                raise ArtifactError(f"the handler yields more than {MAX_VALUES} values; send fewer, or use a stream")
            _check_size(size)
    finally:
        values.close()
    return b"[" + b",".join(pieces) + b"]"


def _file(path: Path) -> OutArtifact:
    if not path.is_file():
        raise ArtifactError(f"the handler returned the path {_short(str(path))}, which is not a file")
    size = path.stat().st_size
    _check_size(size)
    name = path.name if _is_label(path.name) else None
    with path.open("rb") as file:
        data = path if size > INLINE_LIMIT else file.read(INLINE_LIMIT + 1)
    return OutArtifact(data, mimetypes.guess_type(path.name)[0] or BINARY, name)


def _model_json(model: Any) -> bytes:
    text = model.model_dump_json()
    return _binary(text) if isinstance(text, _BYTES_LIKE) else _utf8(str(text))


def _as_object(value: Any) -> object:
    if _is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if _is_model(value):
        return value.model_dump(mode="json")
    raise ArtifactError(f"{_a(value)} cannot be written as JSON; turn it into text, numbers, lists or dicts")


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_model(value: object) -> bool:
    """Tell whether it is a pydantic model; asked of its class, since a stand-in answers to every name."""
    return not isinstance(value, type) and callable(getattr(type(value), "model_dump_json", None))


def _utf8(text: str) -> bytes:
    _check_size(len(text))
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArtifactError(
            f"the text holds half a character (a lone surrogate) at {error.start}; "
            "write it with errors='replace', or return bytes"
        ) from error
    if len(data) > len(text):
        _check_size(len(data))
    return data


def _binary(data: bytes | bytearray | memoryview) -> bytes:
    _check_size(data.nbytes if isinstance(data, memoryview) else len(data))
    return bytes(data)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ArtifactError(f"an artifact of {size} bytes is larger than the {MAX_BYTES} allowed; split it")


def _spelled(entry: dict[Any, Any]) -> dict[Any, Any]:
    """Return the entry with the camelCase spelling of its keys."""
    return {_SPELLINGS.get(key, key) if isinstance(key, str) else key: value for key, value in entry.items()}


def _is_label(text: str) -> bool:
    if len(text) > _MAX_LABEL:
        return False
    return text.isprintable() or all(char.isprintable() or char in _INVISIBLE for char in text)


def _type(value: object) -> str:
    return _short(type(value).__name__)[1:-1]


def _a(value: object) -> str:
    """Return the name of a type with its article."""
    name = _type(value)
    return f"{'an' if name.startswith(tuple('aeiouAEIOU')) else 'a'} {name}"


def _short(value: object) -> str:
    """Return a name for a log line: short, printable, whatever the object does."""
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    return repr(text[:80])


def _said(error: Exception) -> str:
    """Return the text of an exception of Python's own; another's may be anything."""
    return str(error) if type(error).__module__ == "builtins" else type(error).__name__
