"""How a task stands after an event, as its consumer sees it: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.protocol.lifecycle import ANSWERED, INPUT_REQUIRED, PAUSED, QUESTION_CLOSED, QUEUED, RESUMED

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent


def state_after(state: str, event: TaskEvent, question: TaskEvent | None) -> str:
    """Return the state after an event; `question` is the one that is open then."""
    if event.type == "terminal":
        return event.state or "failed"
    if event.type == "system":
        return _after_system(state, event)
    if event.type == "cancel_requested":
        return "running" if state == INPUT_REQUIRED else state
    if event.type not in {"progress", "artifact", "question"}:
        return state
    if question is not None:
        return INPUT_REQUIRED
    # A question that is answered already was overtaken by that news.
    keeps = event.type == "question" or (state == PAUSED and event.type == "progress" and event.state is None)
    return state if keeps else "running"


def _after_system(state: str, event: TaskEvent) -> str:
    if event.status in {QUEUED, "restarted"}:
        return "pending"
    if event.status in {PAUSED, RESUMED}:
        # One that nobody runs goes on waiting, and the hub says so.
        return event.state or (PAUSED if event.status == PAUSED else "running")
    return (event.state or "running") if event.status in {ANSWERED, QUESTION_CLOSED} else state
