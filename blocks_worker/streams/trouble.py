"""What a stream has to say about itself when something is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Category = Literal[
    "connected",
    "reconnected",
    "network_down",
    "network_issues",
    "timeout",
    "malformed_response",
    "access_denied",
    "bad_request",
    "other",
    "gap",
    "overflow",
]

#: The stream ends with one of these: no repetition mends them.
FATAL: frozenset[Category] = frozenset({"access_denied", "bad_request"})


@dataclass(frozen=True)
class StreamError:
    """Say what happened on a stream.

    Attributes:
        category: what it was; `gap` and `overflow` say that data were lost.
        error: in words.
        channel: the channel it happened on.
        timestamp: unix seconds.
        fatal: the stream has ended by it.
    """

    category: Category
    error: str
    channel: str
    timestamp: float
    fatal: bool = False


class Listener(Protocol):
    """Be told what happens to a stream."""

    def troubled(self, error: StreamError) -> None:
        """Something went wrong; after a fatal error, call `close` once everybody was told."""

    def closing(self) -> None:
        """The stream is to end by what was told just now: call `close` once everybody heard it."""

    def finished(self) -> None:
        """Nothing more comes, and nothing more can be written. Told once."""
