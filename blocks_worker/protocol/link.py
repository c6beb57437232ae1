"""What travels on a hub link: one WebSocket that carries calls, their answers, and the messages of channels.

A frame is text, a JSON array of operations; an operation is an array whose first element is its word. Whoever asks
numbers what it asks, and the answer bears that number. Bodies stay as they came until the one who uses them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from blocks_worker.protocol.codec import decode_trusted

#: Where the link is, below the hub's address.
LINK_PATH = "/api/v1/link"
#: Bytes of one frame to the hub: a body of a call with what stands around it.
MAX_FRAME = 2 * 1024 * 1024
#: Seconds after which the hub says something to somebody it has nothing to say to.
BEAT = 15.0
#: The code that closes a link whose incarnation has opened a newer one.
REPLACED = 4409
#: Messages, and bytes of them, that a follower may have been sent and not have taken.
AHEAD_MESSAGES = 1024
AHEAD_BYTES = 8 * 1024 * 1024

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_User = Annotated[str, msgspec.Meta(max_length=92)]


class _Operation(msgspec.Struct, array_like=True, gc=False):
    """Be the base of what one element of a frame is."""


class Token(_Operation, tag="token"):
    """Give a token a number, under which it stands for the rest of this link."""

    number: _Number
    token: str


class Ask(_Operation, tag="ask"):
    """Call an endpoint; `token` is the number of the bearer token, `body` JSON or null."""

    id: _Number
    method: Annotated[str, msgspec.Meta(max_length=8)]
    path: Annotated[str, msgspec.Meta(max_length=2048)]
    token: _Number
    body: msgspec.Raw


class Publish(_Operation, tag="publish"):
    """Say something on a channel of a keyset; `grant` is the number of the network's token."""

    id: _Number
    key: _Name
    user: _User
    grant: _Number
    channel: _Name
    payload: msgspec.Raw


class Where(_Operation, tag="where"):
    """Ask for the position of now."""

    id: _Number


class Follow(_Operation, tag="follow"):
    """Follow exactly these channels of a keyset from now on, each after a position; 0 stands for now.

    `turn` rises with each time, so that an answer tells to which it belongs; `life` is the hub's life to which the
    positions belong.
    """

    follower: _Number
    turn: _Number
    key: _Name
    user: _User
    grant: _Number
    life: str
    channels: dict[str, _Number]


class Leave(_Operation, tag="leave"):
    """Follow nothing any more."""

    follower: _Number


class Taken(_Operation, tag="taken"):
    """Say how many bytes and messages of what was sent the owner has taken."""

    follower: _Number
    messages: _Number
    size: _Number


class Answer(_Operation, tag="answer"):
    """Answer a question: a status, as over HTTP, and a body; `retry_after` in seconds where it is told."""

    id: _Number
    status: int
    body: msgspec.Raw
    retry_after: str | None = None


class Followed(_Operation, tag="followed"):
    """Say from where on channels are followed; `gone` are those of which something after its position is lost."""

    follower: _Number
    turn: _Number
    life: str
    position: _Number
    gone: list[str]


class Denied(_Operation, tag="denied"):
    """Say which channels the grant does not let a follower follow (any more); the others go on."""

    follower: _Number
    turn: _Number
    channels: list[str]
    message: str


class Letter(msgspec.Struct, array_like=True, gc=False):
    """Be one publish: its channel, its position, its payload."""

    channel: str
    position: _Number
    payload: msgspec.Raw


class Said(_Operation, tag="said"):
    """Bring what was published, in order."""

    follower: _Number
    letters: list[Letter]


class Lost(_Operation, tag="lost"):
    """Say that what was published on a channel between two positions is gone before it could be sent."""

    follower: _Number
    channel: str
    since: _Number
    until: _Number


class Beat(_Operation, tag="beat"):
    """Say nothing, so that silence means that the link is dead."""


ToHub = Token | Ask | Publish | Where | Follow | Leave | Taken
FromHub = Answer | Followed | Denied | Said | Lost | Beat

Operation = ToHub | FromHub

# Made once: to make and to compare them takes longer than to read a short frame.
_TO_HUB = list[ToHub]
_FROM_HUB = list[FromHub]


def from_client(frame: bytes) -> list[ToHub]:
    """Return what a client says.

    Raises:
        InvalidMessageError: it is no frame.
    """
    return decode_trusted(_TO_HUB, frame)


def from_hub(frame: bytes) -> list[FromHub]:
    """Return what a hub says.

    Raises:
        InvalidMessageError: it is no frame.
    """
    return decode_trusted(_FROM_HUB, frame)
