"""What is shown of a task that is only heard."""

from __future__ import annotations

from typing import Any

from blocks_worker.client.bare_watching import LiveOrder
from blocks_worker.client.events import TaskEvent


def event(kind: str = "progress", epoch: int = 1, task: str = "t", **fields: Any) -> TaskEvent:
    """Return an event."""
    return TaskEvent.of({"type": kind, "taskId": task, "epoch": epoch, **fields})


def taken(*events: TaskEvent) -> list[bool]:
    """Return which of these are shown."""
    order = LiveOrder("t")
    return [order.takes(one) for one in events]


def test_nothing_twice_and_nothing_older() -> None:
    """A repeat, an older epoch and another task are left out; a hole is not waited for."""
    assert taken(event(n=2), event(n=2), event(n=1), event(n=5)) == [True, False, False, True]
    assert taken(event(epoch=2, n=1), event(n=9), event(epoch=2, n=2)) == [True, False, True]
    assert taken(event("system", seq=4), event("system", seq=4), event("system", seq=5)) == [True, False, True]
    assert taken(event(task="other", n=1), event()) == [False, True]


def test_the_end_is_the_end() -> None:
    """After the terminal event nothing is shown, and a newer run counts from its own beginning."""
    assert taken(event(n=7), event(epoch=2, n=1), event("terminal", 2, seq=9), event(epoch=2, n=2)) == [
        True, True, True, False,
    ]  # fmt: skip
