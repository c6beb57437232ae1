"""What a session shows: an event of a task, as attributes and as the mapping that travelled."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.events import ArtifactRef, TaskEventMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What an event is thought to weigh beside its artifact and message, in bytes.
_WEIGHT = 300


@dataclass(frozen=True)
class TaskEvent:
    """One event of a task.

    ``event["key"]``, ``event.get(key)`` and ``key in event`` answer from `raw`, the fields as they travelled.

    Attributes:
        progress: 0 to 1.
        stream_event: ``stream_started`` or ``stream_ended``, of the streams in `streams`, by id.
        declared_stream: what the card calls the stream that started.
        id: of a question its name, by which it is answered; of the event that says that it is open no more, too.
        text: what is asked.
        schema: the JSON Schema that the answer has to fit; None: any JSON.
        timeout: for how many seconds the question is open.
        ts: unix milliseconds by the hub's clock.
        epoch: which run it belongs to; it only grows.
        n: place among the events that the run's worker made; None for the hub's own.
        seq: place in the hub's ledger.
        last_n: of a terminal event: how many events of the worker stand before it.
        hub_seqs: of a terminal event: which of the hub's own events of that run stand before it; None: not told.
        gap: of a terminal event: events before it could not be had any more.
    """

    type: str
    task_id: str
    raw: dict[str, Any]
    epoch: int
    message: str | None = None
    progress: float | None = None
    state: str | None = None
    status: str | None = None
    artifact_ref: ArtifactRef | None = None
    output_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None
    completion_reason: str | None = None
    stream_event: str | None = None
    streams: dict[str, Any] | None = None
    declared_stream: str | None = None
    id: str | None = None
    text: str | None = None
    schema: dict[str, Any] | None = None
    timeout: float | None = None
    ts: int | None = None
    n: int | None = None
    seq: int | None = None
    last_n: int | None = None
    hub_seqs: list[int] | None = None
    gap: bool = False

    @classmethod
    def of(cls, raw: dict[str, Any]) -> TaskEvent:
        """Return the event that decoded JSON holds.

        Raises:
            InvalidMessageError: it holds none.
        """
        event = object.__new__(cls)
        # What `__init__` does too, but with a call for each of the many fields.
        event.__dict__.update(asdict(convert(TaskEventMessage, raw)), raw=raw)
        return event

    def with_gap(self) -> TaskEvent:
        """Return this terminal event, marked: something before it is missing."""
        return replace(self, gap=True, raw={**self.raw, "gap": True})

    def weight(self) -> int:
        """Return about how many bytes the event takes."""
        data = self.artifact_ref.data if self.artifact_ref else None
        return _WEIGHT + len(data or "") + len(self.message or "") + len(self.text or "")

    def __repr__(self) -> str:
        """Return what is set; of an artifact what it is, without its data."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "raw"}
        told = [
            f"{name}={_short(value) if isinstance(value, ArtifactRef) else repr(value)}"
            for name, value in named.items()
            if value is not None and value is not False
        ]
        return f"TaskEvent({', '.join(told)})"

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field as it travelled."""
        return self.raw.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self.raw[key]

    def __contains__(self, key: object) -> bool:
        return key in self.raw

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def keys(self) -> Any:
        """Return the names of the fields that travelled."""
        return self.raw.keys()


def _short(ref: ArtifactRef) -> str:
    return f"<{ref.file_name or 'no name'} {ref.mime_type} {ref.size} bytes>"
