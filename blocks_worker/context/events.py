"""What a run says for its task, checked and put into events; how they travel is the emitter's affair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from blocks_worker.artifacts import decode_inline_artifact
from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.events import ArtifactRef, EventBody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Longest text of a status, in characters; a longer one belongs into an artifact.
MAX_STATUS = 4096


class Emitter(Protocol):
    """Carry the events of one run to the hub.

    Both verbs raise `TaskFinishedError` when the run is over.
    """

    def emit(self, event: EventBody) -> None:
        """Send an event, after all that were sent before; waits while too many are unanswered."""

    def emit_latest(self, event: EventBody) -> None:
        """Send an event, but at most one of this kind a second: the newest replaces the one that waits."""


class StoreOutput(Protocol):
    """Be what makes the reference to an output: the data inside it when they are small, else their place."""

    def __call__(
        self, data: bytes, *, mime_type: str, file_name: str | None = None, output_id: str | None = None
    ) -> ArtifactRef:
        """Return the reference.

        Raises:
            ArtifactError: the output cannot be stored.
        """


class TaskEvents:
    """Be the sending half of a context."""

    def __init__(self, emitter: Emitter, *, store: StoreOutput) -> None:
        self._emitter = emitter
        self._store = store

    def report_status(self, message: str) -> None:
        """Say in words how it goes."""
        self._emitter.emit_latest(EventBody(type="progress", message=_text(message)))

    def report_progress(self, fraction: float, message: str | None = None) -> None:
        """Say how much is done, from 0 to 1."""
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
            raise TypeError(f"progress is a number from 0 to 1, not {type(fraction).__name__}")
        if not math.isfinite(fraction) or not 0 <= fraction <= 1:
            raise ValueError(f"progress is a number from 0 to 1, not {fraction}")
        text = None if message is None else _text(message)
        self._emitter.emit_latest(EventBody(type="progress", progress=float(fraction), message=text))

    def warn(self, text: str) -> None:
        """Say that something of the result was left out."""
        self._emitter.emit(EventBody(type="system", status="warning", message=text[:MAX_STATUS]))

    def publish_artifact(
        self,
        data: str | bytes | bytearray | memoryview,
        *,
        mime_type: str | None = None,
        file_name: str | None = None,
        output_id: str | None = None,
    ) -> ArtifactRef:
        """Send an output and return where it is.

        Raises:
            TypeError: the data are neither text nor bytes.
            ArtifactError: they cannot be stored.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                f"an artifact is str or bytes, not {type(data).__name__}: json.dumps() makes a text of data, with "
                "mime_type='application/json', and Path.read_bytes() the bytes of a file"
            )
        default = "text/plain" if isinstance(data, str) else "application/octet-stream"
        content = data.encode("utf-8", errors="strict") if isinstance(data, str) else bytes(data)
        ref = self._store(content, mime_type=mime_type or default, file_name=file_name, output_id=output_id)
        self._emitter.emit(EventBody(type="artifact", artifact_ref=ref, output_id=output_id))
        return ref


def download_input_artifact(part: Any, fetch: Callable[[ArtifactRef], bytes]) -> bytes:
    """Return the bytes of the artifact that an input part carries or refers to; `fetch` gets a stored one.

    Raises:
        ValueError: the part has none, or not all that is needed to read it; or it cannot be read.
    """
    ref = _ref_of(part)
    if ref is None:
        raise ValueError("this part carries no artifact")
    return decode_inline_artifact(ref) if ref.kind == "inline" else fetch(ref)


def _ref_of(part: Any) -> ArtifactRef | None:
    found = part.get("artifactRef") if hasattr(part, "get") else getattr(part, "artifact_ref", None)
    if found is None or isinstance(found, ArtifactRef):
        return found
    return convert(ArtifactRef, _as_mapping(found))


def _as_mapping(found: Any) -> Mapping[str, Any]:
    return found.to_dict() if hasattr(found, "to_dict") else found  # type: ignore[no-any-return]  # convert checks the shape


def _text(message: str) -> str:
    if not isinstance(message, str):
        raise TypeError(f"a status is str, not {type(message).__name__}")
    return message if len(message) <= MAX_STATUS else message[: MAX_STATUS - 1] + "…"
