"""Callbacks of users: none ends a thread, and a slow one holds no more than the bound."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until

from blocks_worker.client.callbacks import (
    EVERY,
    THREADS,
    WAITING_BYTES,
    WAITING_CALLS,
    Callback,
    CallbackPool,
    CallbackQueue,
)
from blocks_worker.client.events import TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def event(number: int, kind: str = "progress", **fields: Any) -> TaskEvent:
    """Return an event with this number."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, "n": number, **fields})


class Line:
    """One session's queue."""

    def __init__(self, pool: CallbackPool) -> None:
        self._lock = threading.Lock()
        self.queue = CallbackQueue(pool, self._lock, lambda: None)

    def add(self, callback: Callback, events: Sequence[TaskEvent]) -> None:
        """Have the callback called with these."""
        with self._lock:
            kick = self.queue.add([(callback, one) for one in events])
        if kick:
            self.queue.kick()

    def is_idle(self) -> bool:
        """Tell whether all was called."""
        with self._lock:
            return self.queue.is_idle()


@pytest.fixture
def pool() -> Iterator[CallbackPool]:
    """Give the threads of one client."""
    made = CallbackPool()
    yield made
    made.stop()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("client-callbacks")])


def stopping(_event: TaskEvent) -> None:
    """End as a script does."""
    sys.exit(3)


def interrupted(_event: TaskEvent) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("bad", [stopping, interrupted])
def test_an_exit_in_a_callback_ends_no_thread(pool: CallbackPool, bad: Callable[[TaskEvent], None]) -> None:
    """What is no Exception is reported too, also out of an error callback, and other callbacks run on. [A11]"""
    errors: list[str] = []

    def tell(error: BaseException, _context: object) -> None:
        errors.append(type(error).__name__)
        raise error

    for _ in range(2 * THREADS):
        line = Line(pool)
        line.queue.add_error_callback(Callback("onError", tell))
        line.add(Callback("onTerminal", bad), [event(1)])
        wait_until(line.is_idle, what="the bad callback is over")
    heard: list[TaskEvent] = []
    Line(pool).add(Callback("onTerminal", heard.append), [event(1)])

    wait_until(lambda: len(heard) == 1, what="a good callback")
    assert len(set(errors)) == 1
    assert len(errors) == 2 * THREADS


class Slow:
    """A callback that stands still in its first call until it is let go."""

    def __init__(self) -> None:
        self.heard: list[TaskEvent] = []
        self.stands = threading.Event()
        self.go = threading.Event()

    def __call__(self, event: TaskEvent) -> None:
        """Note the event."""
        self.heard.append(event)
        self.stands.set()
        assert self.go.wait(60)


def test_a_slow_callback_is_told_what_it_missed(pool: CallbackPool) -> None:
    """Beyond the bound the oldest progress goes, artifacts and the end never; a quick callback misses nothing. [A15]"""
    line, slow = Line(pool), Slow()
    quick: list[TaskEvent] = []
    line.add(Callback(EVERY, slow), [event(0)])
    assert slow.stands.wait(5)
    artifacts = [event(number, "artifact") for number in (1, 1000)]
    line.add(Callback(EVERY, slow, active=False), artifacts)
    callback = Callback(EVERY, slow)
    line.add(callback, [artifacts[0], *map(event, range(2, 1000)), artifacts[1], event(1001, "terminal")])
    Line(pool).add(Callback("onProgress", quick.append), [event(1)])
    slow.go.set()
    wait_until(line.is_idle, what="all told")
    wait_until(lambda: quick, what="the other one told")

    told = [one for one in slow.heard if one.type != "system"]
    assert [one.n for one in told] == [0, 1, *range(1000 - WAITING_CALLS, 1002)]
    (warning,) = [one for one in slow.heard if one.type == "system"]
    assert warning.status == "warning"
    assert (warning.message or "").startswith(f"{998 - WAITING_CALLS} events")
    assert len(quick) == 1
    assert (callback.weight, callback.lost, len(callback.passing)) == (0, 0, 0)


def test_bytes_are_bounded_too(pool: CallbackPool) -> None:
    """Large events that wait for a slow callback are fewer; one that is over the bound alone still comes."""
    line, slow = Line(pool), Slow()
    callback = Callback("onProgress", slow)
    line.add(callback, [event(0)])
    assert slow.stands.wait(5)
    line.add(callback, [event(number, message="x" * (WAITING_BYTES // 4)) for number in range(1, 9)])
    line.add(callback, [event(9, message="x" * (WAITING_BYTES + 1))])
    slow.go.set()
    wait_until(line.is_idle, what="all told")

    assert [one.n for one in slow.heard] == [0, 9]
