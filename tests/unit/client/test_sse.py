"""Server-sent events as text."""

from __future__ import annotations

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.sse import KEEP_ALIVE, block, blocks_of


def event(kind: str, seq: int, **fields: object) -> TaskEvent:
    """Return an event."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, "seq": seq, **fields})


def test_a_block_is_one_line_a_field() -> None:
    """Whatever a message holds, it breaks no line."""
    assert block("progress", {"message": "a\nb\r\n"}, 7) == (
        'id: 7\nevent: progress\ndata: {"message": "a\\nb\\r\\n"}\n\n'
    )


def test_a_change_of_the_state_comes_first() -> None:
    """The state comes at the beginning and when it has changed; silence is a comment; nothing follows the end."""
    states = iter(["pending", "pending", "running", "completed"])
    events = [None, event("progress", 1), event("terminal", 2, state="completed"), event("progress", 3)]
    told = list(blocks_of(events, lambda: {"state": next(states)}))

    kinds = [text.partition("event: ")[2].partition("\n")[0] for text in told]
    assert told[1] == KEEP_ALIVE
    assert kinds == ["state", "", "state", "progress", "state", "terminal"]


def test_an_end_without_a_terminal_event_is_told() -> None:
    """Who reads knows that the session was closed."""
    assert list(blocks_of([], lambda: {"state": "running"})) == [
        block("state", {"state": "running"}),
        block("closed", {"state": "running"}),
    ]
