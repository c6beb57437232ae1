"""What becomes of an answer when a fault is to be played: nothing, half of it, rubbish, or all of it, late."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from blocks_worker.hub.network.http import Spoiled
from blocks_worker.hub.network.wire import Reply, rendered

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.network.http import Answer

#: Kinds whose request is carried out first; the others are never carried out.
COMMITTING = frozenset(("truncate", "delay", "commit_then"))
KINDS = COMMITTING | {"status", "malformed", "drop", "rst", "hang", "garbage"}


@dataclass(frozen=True)
class Spoiling:
    """Say how an answer is spoiled; `then` is what a `commit_then` does to the answer, `seconds` are a delay's."""

    kind: str
    status: int = 500
    body: bytes = b"<html>not what was asked for</html>"
    #: Further header lines, each with its line end.
    extra: bytes = b""
    seconds: float = 0.0
    then: str = "drop"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.then not in KINDS - {"commit_then"}:
            raise ValueError(f"a fault is one of {', '.join(sorted(KINDS))}")

    def apply(self, serve: Callable[[], Answer]) -> Answer:
        """Return the spoiled answer; what is committed is carried out first."""
        kind = self.then if self.kind == "commit_then" else self.kind
        answer = serve() if self.kind in COMMITTING else Reply(200, b"")
        if kind == "hang":
            if not isinstance(answer, Reply):
                answer.cancel()
            return asyncio.get_running_loop().create_future()
        return later(answer, partial(self._spoil, kind), self.seconds if kind == "delay" else 0.0)

    def _spoil(self, kind: str, reply: Reply) -> Reply:
        if kind == "delay":
            return reply
        if kind == "status":
            return Reply(self.status, self.body, self.extra)
        if kind == "malformed":
            return Reply(200, self.body)
        if kind == "rst":
            return Spoiled(0, b"", deliver=reset)
        return Spoiled(0, b"", deliver=partial(_say_and_close, _LAST_WORDS[kind](reply)))


def later(answer: Answer, act: Callable[[Reply], Reply], seconds: float) -> Answer:
    """Return what `act` makes of an answer, so many seconds after it came."""
    if isinstance(answer, Reply) and not seconds:
        return act(answer)
    loop = asyncio.get_running_loop()
    outer: asyncio.Future[Reply] = loop.create_future()

    def settle(reply: Reply) -> None:
        if not outer.done():
            outer.set_result(act(reply))

    def come(inner: asyncio.Future[Reply]) -> None:
        if not inner.cancelled():
            loop.call_later(seconds, settle, inner.result())

    if isinstance(answer, Reply):
        loop.call_later(seconds, settle, answer)
    else:
        answer.add_done_callback(come)
        outer.add_done_callback(lambda _outer: answer.cancel())  # the client went away
    return outer


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a reset: closing without lingering throws away what was not sent."""
    # A descriptor of our own, because not every loop lets us set options on its socket.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _say_and_close(words: bytes, transport: asyncio.Transport) -> None:
    if words:
        transport.write(words)
    transport.close()


def _half(reply: Reply) -> bytes:
    whole = rendered(reply, keep_alive=True)
    return whole[: len(whole) - max(1, len(reply.body) // 2)]


_LAST_WORDS = cast(
    "dict[str, Callable[[Reply], bytes]]",
    {"drop": lambda _reply: b"", "garbage": lambda _reply: b"\x16\x03\x01 this is not HTTP\r\n\r\n", "truncate": _half},
)
