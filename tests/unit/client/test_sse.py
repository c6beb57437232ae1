"""Server-sent events as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.sse import KEEP_ALIVE, block, blocks_of, check_keep_alive

if TYPE_CHECKING:
    from collections.abc import Iterable


def event(kind: str, seq: int, **fields: object) -> TaskEvent:
    """Return an event."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, "seq": seq, **fields})


def test_a_block_is_one_line_a_field() -> None:
    """Whatever a message holds, it breaks no line."""
    assert block("progress", {"message": "a\nb\r\n"}, 7) == (
        'id: 7\nevent: progress\ndata: {"message": "a\\nb\\r\\n"}\n\n'
    )


def kinds(told: Iterable[str]) -> list[str]:
    """Return the type of each block; a comment has none."""
    return [text.partition("event: ")[2].partition("\n")[0] for text in told]


def test_a_change_of_the_state_comes_first() -> None:
    """The state comes at the beginning and when it has changed; silence is a comment; nothing follows the end."""
    states = iter(["pending", "pending", "running", "completed"])
    events = [None, event("progress", 1), event("terminal", 2, state="completed"), event("progress", 3)]
    told = list(blocks_of(events, lambda: {"state": next(states)}))

    assert told[1] == KEEP_ALIVE
    assert kinds(told) == ["state", "", "state", "progress", "state", "terminal"]


@pytest.mark.parametrize("state", ["completed", "failed", "canceled"])
def test_that_it_is_over_is_told_behind_everything(state: str) -> None:
    """Who stops there has all events, though the session knew the end before they were read. [R-56]"""
    states = iter(["running"])
    events = [event("progress", 1), event("artifact", 2), event("terminal", 3, state=state)]
    told = list(blocks_of(events, lambda: {"state": next(states, state)}))

    assert kinds(told) == ["state", "progress", "artifact", "state", "terminal"]
    assert told[3] == block("state", {"state": state})


def test_a_task_that_was_over_is_told_from_its_beginning() -> None:
    """It says first what was, and then that it is over."""
    events = [event("artifact", 1), event("terminal", 2, state="completed")]

    assert kinds(blocks_of(events, lambda: {"state": "completed"})) == ["artifact", "state", "terminal"]


def test_an_end_without_a_terminal_event_is_told() -> None:
    """Who reads knows that the session was closed."""
    assert list(blocks_of([], lambda: {"state": "running"})) == [
        block("state", {"state": "running"}),
        block("closed", {"state": "running"}),
    ]


@pytest.mark.parametrize("seconds", ["x", None, True, [1]])
def test_a_time_that_is_no_number_is_refused(seconds: Any) -> None:
    """The sentence names the argument and what it takes."""
    with pytest.raises(TypeError, match=r"^keep_alive is a number of seconds, at least 0\.05, not "):
        check_keep_alive(seconds)


@pytest.mark.parametrize("seconds", [0, 1e-9, -1.5, math.nan, math.inf, 1e300])
def test_a_time_that_nothing_waits_is_refused(seconds: float) -> None:
    """Neither no time nor one without end."""
    with pytest.raises(ValueError, match=r"^keep_alive is a number of seconds, at least 0\.05, not "):
        check_keep_alive(seconds)
