"""What a session does with what it is fed."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock

from blocks_worker.client.callbacks import EVERY, CallbackPool
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.session_feed import SessionFeed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def owner() -> Iterator[Any]:
    """Be the client; `left` are the sessions that it was told to forget."""
    left: list[SessionFeed] = []
    pool = CallbackPool()
    yield SimpleNamespace(pool=pool, clock=FakeClock(), forget=left.append, left=left)
    pool.stop()


def event(number: int, kind: str = "progress", **fields: Any) -> TaskEvent:
    """Return an event with this number."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, "n": number, "seq": number, **fields})


def test_what_fails_at_a_stream_silences_no_callback(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks hear of that event and of all that follow, and the session is left at its end."""
    feed = SessionFeed(owner, "t", poll=5.0)
    called = threading.Event()
    feed.register(EVERY, lambda _event: called.set())

    def fail() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(feed._streams, "settle_ends", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        feed.feed([event(1)], 0.0)
    assert called.wait(10)
    with pytest.raises(RuntimeError, match="new thread"):
        feed.feed([event(2, "terminal", state="completed")], 0.0)
    assert owner.left == [feed]
