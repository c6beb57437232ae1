"""What travels for a stream: its announcement, the frames of its data, and what a reader says back.

A stream has two channels: what the agent says is on its *down* channel, what the consumer says on its *up* channel.
Frames go one way and acknowledgements come back on the other, so each side reads one channel and writes the other.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import Wire, convert

Direction = Literal["outbound", "inbound", "bidirectional"]
Format = Literal["bytes", "events"]
Affinity = Literal["dedicated", "shared"]

#: What a stream may be called; a dedicated one is ``{taskId}-{n}``, a shared one as the card calls it.
STREAM = re.compile(r"[A-Za-z0-9_-]{1,92}\Z")
#: Ranges of missing frames that one acknowledgement may ask for.
MAX_MISSING = 32
#: A number of a frame must stay exact in every JSON reader.
MAX_SEQ = 2**53 - 1
#: What a handler is told that opens a stream nobody asked for; a task may end with it.
NO_STREAM = "no stream is negotiated for this task"

_Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]

_INVERSE: dict[str, Direction] = {"outbound": "inbound", "inbound": "outbound", "bidirectional": "bidirectional"}


def invert_direction(direction: Direction) -> Direction:
    """Return the same direction as the other side sees it.

    Raises:
        ValueError: there is no such direction.
    """
    if direction not in _INVERSE:
        raise ValueError(f"a direction is outbound, inbound or bidirectional, not {direction!r}")
    return _INVERSE[direction]


class Multipart(Wire):
    """Say which slice of one large event a frame carries; the slices have consecutive numbers."""

    id: _Name
    part: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    total: Annotated[int, msgspec.Meta(ge=2, le=100_000)]


class Frame(Wire):
    """One numbered piece of a stream: chunks of bytes or text, events, a slice of an event, or the end."""

    type: Literal["stream_data", "stream_events", "stream_end"]
    stream_id: _Name
    #: Who writes: one writer's life. Numbers count from 0 for each.
    sender: _Name
    seq: _Seq
    #: Unix milliseconds of the writer.
    ts: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    #: Of all chunks of this frame.
    encoding: Literal["utf8", "base64"] = "utf8"
    chunks: list[str] | None = None
    events: list[Any] | None = None
    multipart: Multipart | None = None
    #: The slice, base64.
    data: str | None = None


class Ack(Wire):
    """What a reader says back: which frame it wants next, which it misses, and that it is there."""

    type: Literal["stream_ack"]
    stream_id: _Name
    #: Who reads.
    sender: _Name
    #: The writer it speaks to; nobody in particular when it has heard none yet.
    to: _Name | None = None
    #: All frames below are taken.
    next: _Seq = 0
    #: Ranges ``[first, last]`` that it has not got.
    missing: list[tuple[_Seq, _Seq]] = []
    #: It reads no more.
    bye: bool = False


class Announced(Wire):
    """How a stream is announced to the consumers of its task."""

    channel: str
    direction: Direction
    format: Format
    affinity: Affinity = "dedicated"
    #: Lets a reader on this one stream; it may expire before the task ends, and is then asked for again.
    token: str | None = None
    metadata: dict[str, Any] = {}
    #: The network's position before the first frame, in digits: from here on nothing is missed.
    position: str = "0"
    #: The agent's writer, and the number of its first frame for this task.
    writer: str | None = None
    first: _Seq = 0


def down_channel(agent_name: str, stream_id: str) -> str:
    """Return where the agent speaks on a stream."""
    return f"stream.{agent_name}.{stream_id}"


def up_channel(down: str) -> str:
    """Return where the consumers of a stream speak, by the name of its down channel."""
    return f"{down}.up"


def read_message(body: dict[str, Any]) -> Frame | Ack | None:
    """Return the frame or acknowledgement in a message; None for a type that is neither.

    Raises:
        InvalidMessageError: it is not whole.
    """
    kind = body.get("type")
    if kind == "stream_ack":
        ack = convert(Ack, body)
        if len(ack.missing) > MAX_MISSING:
            raise InvalidMessageError("shape", f"an acknowledgement asks for more than {MAX_MISSING} ranges")
        return ack
    if kind in ("stream_data", "stream_events", "stream_end"):  # no set: whatever came is compared, not hashed
        frame = convert(Frame, body)
        _check(frame)
        return frame
    return None


def chunk_bytes(frame: Frame) -> list[bytes]:
    """Return the chunks of a data frame as they were written.

    Raises:
        InvalidMessageError: one is not what the frame's encoding says.
    """
    chunks = frame.chunks or []
    try:
        if frame.encoding == "utf8":
            return [chunk.encode("utf-8") for chunk in chunks]
        return [base64.b64decode(chunk, validate=True) for chunk in chunks]
    except (binascii.Error, ValueError) as error:
        raise InvalidMessageError("encoding", "a chunk is not what its frame says") from error


def _check(frame: Frame) -> None:
    if frame.type == "stream_end":
        return
    if frame.multipart is not None:
        if frame.data is None or frame.multipart.part > frame.multipart.total:
            raise InvalidMessageError("shape", "a slice has no data, or more parts than all")
        return
    held = frame.chunks if frame.type == "stream_data" else frame.events
    if not held:
        raise InvalidMessageError("shape", "a frame holds nothing")


class StreamName(Wire):
    """Name one stream of one task."""

    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    stream_id: Annotated[str, msgspec.Meta(min_length=1, max_length=92)]
    #: Tokens for this stream alone are wanted too, to be handed to others.
    hand_out: bool = False


class StreamGrantRequest(Wire):
    """Ask for one grant over these streams, on the asker's side of each."""

    streams: Annotated[list[StreamName], msgspec.Meta(min_length=1, max_length=128)]


class GrantedStream(Wire):
    """Where one stream is, and the tokens to hand out when they were asked for; or why it is not granted."""

    task_id: str
    stream_id: str
    channel: str = ""
    #: The grant does not cover this one: the hub's word and sentence for it.
    refused: str | None = None
    message: str | None = None
    #: Lets its bearer be a consumer of the stream.
    consumer_token: str | None = None
    #: Lets its bearer be the agent's side; only an agent gets it.
    agent_token: str | None = None


class StreamGrant(Wire, omit_defaults=False):
    """One grant over all streams that were asked for. `expires_in` is in seconds."""

    token: str
    expires_in: float
    #: The user id that the grant is bound to, and the channel that wakes its own poll.
    user_id: str
    wake_channel: str
    streams: list[GrantedStream]
