"""The polls that wait, found by what they listen to: plain names and wildcards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.network.channels import PRESENCE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from blocks_worker.hub.network.wire import Reply

#: Dots that may stand before the star of a wildcard.
WILDCARD_DOTS = 2


class Poll:
    """Be one poll that waits: what it listens to, from where, and the answer it will get.

    `refused` tells whether it may wait no more, and with which answer.
    """

    __slots__ = ("answer", "cursor", "names", "refused", "timer")

    def __init__(
        self,
        names: list[str],
        cursor: int,
        answer: asyncio.Future[Reply],
        timer: asyncio.TimerHandle,
        refused: Callable[[], Reply | None],
    ) -> None:
        self.names = names
        self.cursor = cursor
        self.answer = answer
        self.timer = timer
        self.refused = refused


class Polls:
    """Hold the waiting polls by each name they listen to."""

    def __init__(self) -> None:
        #: Who listens, by each name.
        self.by_name: dict[str, dict[Poll, None]] = {}

    def add(self, poll: Poll) -> None:
        """Let a poll wait."""
        for name in poll.names:
            self.by_name.setdefault(name, {})[poll] = None

    def remove(self, poll: Poll) -> None:
        """Let a poll wait no more; twice is once."""
        for name in poll.names:
            waiting = self.by_name.get(name)
            if waiting is not None:
                waiting.pop(poll, None)
                if not waiting:
                    del self.by_name[name]

    def listening(self, channel: str) -> Iterator[Poll]:
        """Yield the polls that a message of this channel is for; one may come twice."""
        yield from self.by_name.get(channel, ())
        if "." in channel:
            for wildcard in wildcards(channel):
                yield from self.by_name.get(wildcard, ())

    def waiting(self) -> set[Poll]:
        """Return all polls that wait."""
        return {poll for polls in self.by_name.values() for poll in polls}


def wildcards(channel: str) -> Iterator[str]:
    """Yield the wildcards that match a channel; presence events have wildcards of their own."""
    name, ending = (channel[: -len(PRESENCE)], PRESENCE) if channel.endswith(PRESENCE) else (channel, "")
    dot = -1
    for _ in range(WILDCARD_DOTS):
        dot = name.find(".", dot + 1)
        if dot < 0:
            return
        yield f"{name[: dot + 1]}*{ending}"


def wildcard_prefix(name: str) -> str | None:
    """Return what the channels of a wildcard begin with, None for a plain name."""
    bare = name.removesuffix(PRESENCE)
    if not bare.endswith(".*") or bare.count(".") > WILDCARD_DOTS:
        return None
    return bare[:-1]
