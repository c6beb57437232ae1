"""What leaves on a link, and what a link does with more than it can work on: no network, a loop."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from localnet import KEYS
from uvicorn.server import ServerState

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.config import HubConfig
from blocks_worker.hub.api.calls import Answer
from blocks_worker.hub.api.coming import Coming
from blocks_worker.hub.app import Carried, Entry
from blocks_worker.hub.link import CALLS, Links
from blocks_worker.hub.link_socket import FRAMES, Saying
from blocks_worker.hub.network.network import LocalNetwork
from blocks_worker.hub.rounds import Rounds
from blocks_worker.hub.server import LinkSocket, server_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blocks_worker.hub.link_socket import Hearer


class _Socket:
    """Keep what is sent, and whether it is to be read from."""

    def __init__(self) -> None:
        self.is_full = False
        self.is_held = False
        self.sent: list[Any] = []

    def hear(self, hearer: Hearer) -> None:
        self.hearer = hearer

    def say(self, frame: bytes) -> None:
        self.sent.append(json.loads(frame))

    def hold(self) -> None:
        self.is_held = True

    def go_on(self) -> None:
        self.is_held = False


class _Calls:
    """Be the doors, which answer when they are told to, in whatever order."""

    def __init__(self) -> None:
        self.begun: list[Coming] = []

    def carry(self, _method: str, path: str, _bearer: str | None, _body: bytes, client: Any) -> Carried:
        """Begin a call."""
        assert client == ("127.0.0.1", 1)
        hand = asyncio.get_running_loop().call_soon
        self.begun.append(Coming(hand, lambda _result: Answer(200, json.dumps(path).encode())))
        return Carried(self.begun[-1], self.begun[-1].answer)  # type: ignore[arg-type]


class _Guard:
    """Let everybody in."""

    def admitted(self, _bearer: str | None) -> tuple[Any, int]:
        """Return nobody who is an instance."""
        return type("Who", (), {"owner": "o", "key": "k"})(), 0


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _on_link(act: Callable[[_Socket, _Calls], Any]) -> list[dict[str, Any]]:
    """Act on a link, end it, and return what was said to ASGI."""
    said: list[dict[str, Any]] = []

    async def run() -> None:
        socket, calls, gone = _Socket(), _Calls(), asyncio.Event()
        news = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect"}])

        async def receive() -> dict[str, Any]:
            message = next(news)
            if message["type"] == "websocket.disconnect":
                await gone.wait()
            return message

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        network = LocalNetwork([KEYS], secrets=None, clock=Clock(), entropy=Entropy())
        links = Links(carry=calls.carry, network=network, guard=_Guard(), life="life")  # type: ignore[arg-type]
        scope = {"type": "websocket", "client": ("127.0.0.1", 1), "extensions": {FRAMES: socket}}
        link = asyncio.ensure_future(links(scope, receive, send, "t"))
        await _turns()
        await act(socket, calls)
        gone.set()
        await link
        assert not any(call.is_awaited() for call in calls.begun[-2:])

    asyncio.run(run())
    return said


def test_what_is_said_in_one_turn_leaves_in_one_frame() -> None:
    """Order is kept, and nothing is sent while the socket is full."""

    async def run() -> list[Any]:
        socket = _Socket()
        saying = Saying(socket, Rounds().at_end, 100)
        saying.say(b"1")
        saying.say(b"2")
        await _turns(1)
        socket.is_full = True
        saying.say(b"3")
        await _turns(1)
        saying.say(b"4")
        await _turns(1)
        before = list(socket.sent)
        socket.is_full = False
        saying.go_on()
        return [before, socket.sent]

    assert asyncio.run(run()) == [[[1, 2]], [[1, 2], [3, 4]]]


def test_a_socket_that_takes_nothing_is_known_by_what_waits() -> None:
    """Whoever says more than is kept is told so; what was closed sends nothing."""

    async def run() -> list[Any]:
        socket = _Socket()
        socket.is_full = True
        saying = Saying(socket, Rounds().at_end, 5)
        fits = [saying.say(b"123"), saying.say(b"456")]
        saying.close()
        socket.is_full = False
        await _turns()
        return [*fits, *socket.sent]

    assert asyncio.run(run()) == [True, False]


def test_calls_beyond_the_bound_wait_and_nothing_more_is_read() -> None:
    """They are begun in order as others are answered, and then the link reads on."""

    async def act(socket: _Socket, calls: _Calls) -> None:
        asks = [["ask", number, "GET", f"/{number}", 0, None] for number in range(CALLS + 3)]
        socket.hearer.heard(json.dumps(asks[:-1]).encode())
        socket.hearer.heard(json.dumps([["where", 99], asks[-1]]).encode())
        assert (len(calls.begun), socket.is_held) == (CALLS, True)
        await _turns()
        assert socket.sent == []
        calls.begun[5].give(None)
        calls.begun[6].give(None)
        await _turns()
        assert (len(calls.begun), socket.is_held) == (CALLS + 2, True)
        calls.begun[0].give(None)
        await _turns()
        assert (len(calls.begun), socket.is_held) == (CALLS + 3, False)
        told = [operation for frame in socket.sent for operation in frame]
        assert [operation[1] for operation in told] == [5, 6, 99, 0]
        assert told[-1][3] == "/0"

    assert _on_link(act) == [{"type": "websocket.accept"}]


@pytest.mark.parametrize("frame", [b"", b"{}", b'[["ask",1]]', b"\x01"])
def test_a_frame_that_is_none_ends_the_link(frame: bytes) -> None:
    """Its client is told why, and nothing that comes behind it is done."""

    async def act(socket: _Socket, calls: _Calls) -> None:
        socket.hearer.heard(frame)
        socket.hearer.heard(b'[["ask",1,"GET","/",0,null]]')
        await _turns()
        assert calls.begun == []

    assert [message.get("code") for message in _on_link(act)] == [None, 4400]


class _Transport:
    """Be a transport that sends nothing, and knows whether it is read."""

    def __init__(self) -> None:
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False


def test_a_socket_gives_what_came_to_its_hearer_and_keeps_what_came_before(tmp_path: Path) -> None:
    """Frames pass the queue, the end does not; one that is held is not read, whatever the server does."""

    async def run() -> None:
        config = server_config(HubConfig(state_dir=tmp_path), Entry(), 0)
        config.load()
        socket, heard = LinkSocket(config, ServerState(), {}), list[bytes]()
        transport: Any = _Transport()
        socket.transport = transport
        socket.queue.put_nowait({"type": "websocket.receive", "bytes": b"early"})
        socket.queue.put_nowait({"type": "websocket.disconnect", "code": 1001})
        socket.hear(SimpleNamespace(heard=heard.append, sent=lambda: heard.append(b"room")))  # type: ignore[arg-type]
        socket.queue.put_nowait({"type": "websocket.receive", "bytes": b"frame"})
        socket.queue.put_nowait({"type": "websocket.receive", "text": "[]"})
        socket.pause_writing()
        assert socket.is_full
        socket.resume_writing()
        assert (heard, socket.is_full) == ([b"early", b"frame", b"", b"room"], False)
        assert socket.queue.get_nowait()["type"] == "websocket.disconnect"
        socket.hold()
        socket.data_received(b"")
        assert not transport.reads
        socket.go_on()
        assert transport.reads

    asyncio.run(run())
