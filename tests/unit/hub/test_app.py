"""The hub's entry: a body has its time, however its bytes come."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock, LoopThread, SeededEntropy

from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.app import App
from blocks_worker.hub.audit import Audit
from blocks_worker.hub.auth.guard import Guard
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import Tokens
from blocks_worker.hub.problems import not_found
from blocks_worker.hub.traffic import Traffic
from blocks_worker.hub.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from blocks_worker.hub.api.calls import Call


async def _length(call: Call) -> Answer:
    return Answer(200, b"%d" % len(call.body))


async def _refuse(_call: Call) -> Answer:
    raise not_found()


def _app(folder: Path, patience: float) -> App:
    clock = FakeClock()
    tokens = Tokens(SigningKeys.fixed(b"s" * 32, clock), clock=clock, entropy=SeededEntropy())
    doors = [Door("POST", "/length", _length), Door("PUT", "/stream", _refuse, streams=True)]
    watch = Watch(Audit(folder, clock), Guard(tokens, clock, ()))
    traffic = Traffic(clock, ["POST", "PUT"])
    return App(doors, hosts=[], entropy=SeededEntropy(), traffic=traffic, watch=watch, patience=patience)


async def _drip() -> dict[str, Any]:
    """Be a body whose bytes come one by one and never end."""
    await asyncio.sleep(0.005)
    return {"type": "http.request", "body": b"x", "more_body": True}


async def _asked(app: App, method: str, path: str, receive: Any) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", b"1000000")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    await asyncio.wait_for(app(scope, receive, send), 25)
    return int(sent[0]["status"]), bytes(sent[1]["body"])


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/length", 408), ("PUT", "/stream", 404)])
def test_a_body_that_drips_is_given_up(tmp_path: Path, method: str, path: str, status: int) -> None:
    """A byte now and then does not hold a request: its body has one end, and so has what is thrown away. [K10]"""
    app = _app(tmp_path, 0.05)
    with LoopThread() as loop:
        answered, body = loop.run(_asked(app, method, path, _drip))

    assert answered == status
    assert json.loads(body)["code"] in {"BodyTimeout", "NotFound"}


def test_a_body_in_pieces_is_taken(tmp_path: Path) -> None:
    """The same body that ends in its time is whole."""
    app, pieces = _app(tmp_path, 20), iter([True] * 20 + [False])

    async def receive() -> dict[str, Any]:
        return {**await _drip(), "more_body": next(pieces)}

    with LoopThread() as loop:
        assert loop.run(_asked(app, "POST", "/length", receive)) == (200, b"21")
