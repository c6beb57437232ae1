"""One input piece of a task: a dict in the form that travels, with attributes on top."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.events import ArtifactRef

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Attribute names and the keys that travel.
_KEYS = {"part_id": "partId", "text": "text", "content_type": "contentType", "artifact_ref": "artifactRef"}
_NAMED = frozenset(_KEYS.values())


class RequestPart(dict[str, Any]):
    """Be one part: the mapping holds what travels, so that ``json.dumps(part)`` works.

    An absent key is absent in the mapping and None as an attribute. Setting an attribute changes the
    mapping; None takes the key out. The attribute names work as keys too: ``part["part_id"]``.
    """

    __slots__ = ()

    def __init__(
        self,
        part_id: str | None = None,
        text: str | None = None,
        *,
        content_type: str | None = None,
        artifact_ref: ArtifactRef | Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(extra or {})
        self.part_id = part_id
        self.text = text
        self.content_type = content_type
        self.artifact_ref = artifact_ref

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> RequestPart:
        """Return the part with exactly these keys."""
        part = cls.__new__(cls)
        part.update({_KEYS.get(key, key): value for key, value in wire.items()})
        return part

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict of what travels."""
        return dict(self)

    @property
    def part_id(self) -> str | None:
        """The part's id."""
        return self._text("partId")

    @part_id.setter
    def part_id(self, value: str | None) -> None:
        self._put("partId", value)

    @property
    def text(self) -> str | None:
        """The part's text."""
        return self._text("text")

    @text.setter
    def text(self, value: str | None) -> None:
        self._put("text", value)

    @property
    def content_type(self) -> str | None:
        """What the sender says the part is."""
        return self._text("contentType")

    @content_type.setter
    def content_type(self, value: str | None) -> None:
        self._put("contentType", value)

    @property
    def artifact_ref(self) -> ArtifactRef | None:
        """Where the part's data are; None as well when the mapping holds no valid reference."""
        wire = self.get("artifactRef")
        try:
            return None if wire is None else convert(ArtifactRef, wire)
        except InvalidMessageError:
            return None

    @artifact_ref.setter
    def artifact_ref(self, value: ArtifactRef | Mapping[str, Any] | None) -> None:
        self._put("artifactRef", msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value)

    @property
    def extra(self) -> dict[str, Any]:
        """All keys that have no attribute of their own."""
        return {key: value for key, value in self.items() if key not in _NAMED}

    @property
    def mime_type(self) -> str | None:
        """The content type, else the artifact's, else a guess from the file name."""
        ref = self.artifact_ref
        if self.content_type or ref is None:
            return self.content_type
        stated = isinstance(self["artifactRef"], dict) and "mimeType" in self["artifactRef"]
        guess = mimetypes.guess_type(ref.file_name)[0] if ref.file_name and not stated else None
        return guess or ref.mime_type

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        return super().get(_KEYS.get(key, key), default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_KEYS.get(key, key) if isinstance(key, str) else key)

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(_KEYS.get(key, key))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(_KEYS.get(key, key), value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(_KEYS.get(key, key))

    def _text(self, key: str) -> str | None:
        value = super().get(key)
        return value if isinstance(value, str) else None

    def _put(self, key: str, value: object) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value
