"""What a task says: the events a worker makes, the head the hub puts before them, and what a session reads."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import Wire, check_size, convert, decode_trusted, splice

#: Largest body of one event as the worker makes it, in bytes: an inline artifact at its limit fits.
MAX_EVENT = 64 * 1024

#: Why a task failed. What stands behind a code is printed in docs/reference.md.
ErrorCode = Literal[
    "handler_error",  # the handler raised
    "handler_exit",  # the handler raised `SystemExit` or the like
    "invalid_input",  # the handler found the input wrong: `InputError`
    "invalid_start_task",  # the start body cannot be read, or is not the one that the claim names
    "artifact_failed",  # an artifact cannot travel, or could not be stored
    "bad_result",  # the hub refused what the run reported, or the result was unknown where results are strict
    "event_quota",  # the run said more than the hub stores of one run
    "timeout",  # a limit of time is over: `reason` says which
    "lease_lost",  # the holder is gone, and the task may not be run again
    "agent_at_capacity",  # a name for later: no task fails with it yet
    "call_depth_exceeded",  # a handler asked another agent, more than eight calls deep
    "stream_crashed",  # a stream of it failed: `fail_stream`, or what `on_activate` raised
    "unsupported_protocol_version",  # a name for later
]


class ArtifactRef(Wire):
    """Where an artifact is: `data` (base64) inline, or a file."""

    kind: Literal["inline", "file"]
    mime_type: str = "application/octet-stream"
    size: int = 0
    hash: str | None = None
    data: str | None = None
    file_name: str | None = None
    channel: str | None = None
    file_id: str | None = None
    expires_at: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as the dict that travels."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {"mimeType": self.mime_type, "size": self.size, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ArtifactRef:
        """Return the reference that a travelling dict holds."""
        return convert(cls, fields)


class EventBody(Wire):
    """A durable event as the worker makes it; the hub adds task, epoch, number and time."""

    type: Literal["progress", "artifact", "system", "question"]
    progress: float | None = None
    state: Literal["running"] | None = None
    message: str | None = None
    artifact_ref: ArtifactRef | None = None
    output_id: str | None = None
    status: str | None = None
    #: With `streams`: those that began, as announced, or those that ended, with the number behind the last frame.
    stream_event: Literal["stream_started", "stream_ended"] | None = None
    streams: dict[str, Any] | None = None
    declared_stream: str | None = None
    #: Of a question: its name, its text, the JSON Schema of the answer, and for how many seconds it is open.
    ask_id: str | None = msgspec.field(default=None, name="id")
    question: str | None = msgspec.field(default=None, name="text")
    schema: dict[str, Any] | None = None
    timeout: float | None = None


class EventHead(Wire):
    """What the hub reads of a worker's event, and the fields which only the hub writes: with one it is refused."""

    type: Literal["progress", "artifact", "system", "question"]
    status: str | None = None
    ask_id: Any = msgspec.field(default=None, name="id")
    question: Any = msgspec.field(default=None, name="text")
    schema: Any = None
    timeout: Any = None
    task_id: Any = msgspec.UNSET
    epoch: Any = msgspec.UNSET
    n: Any = msgspec.UNSET
    seq: Any = msgspec.UNSET
    ts: Any = msgspec.UNSET
    last_n: Any = msgspec.UNSET
    protocol_version: Any = msgspec.UNSET


_HUB_FIELDS = ("task_id", "epoch", "n", "seq", "ts", "last_n", "protocol_version")


def check_event(body: bytes) -> EventHead:
    """Return what the hub has to know of an event in a report that was inspected; refuse what no worker may send.

    Raises:
        InvalidMessageError: too large, not an event, or with a field that only the hub writes.
    """
    check_size(body, MAX_EVENT)
    head = decode_trusted(EventHead, body)
    for name in _HUB_FIELDS:
        if getattr(head, name) is not msgspec.UNSET:
            raise InvalidMessageError("shape", f"an event may not carry {name!r}: the hub writes it")
    return head


def event_head(task_id: str, epoch: int, ts: int) -> bytes:
    """Return what all events of one report begin with, as the ledger keeps them."""
    return splice({"taskId": task_id, "epoch": epoch, "ts": ts, "protocolVersion": "1"}, b"{}")[:-1]


def stored_event(head: bytes, n: int, body: bytes) -> bytes:
    """Return a worker's event as the ledger keeps it."""
    return b'%b,"n":%d,%b' % (head, n, body.strip()[1:])


def numbered(stored: bytes, seq: int) -> bytes:
    """Return a stored event with its place in the ledger, as readers get it."""
    return b'{"seq":%d,%b' % (seq, stored[1:])


class TaskEventMessage(Wire):
    """An event as a session reads it. `n` is None for the hub's own; `raw` fields beyond these are kept apart."""

    type: str
    task_id: str
    epoch: int
    seq: int | None = None
    n: int | None = None
    ts: int | None = None
    progress: float | None = None
    state: str | None = None
    message: str | None = None
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
    last_n: int | None = None
    hub_seqs: list[int] | None = None
