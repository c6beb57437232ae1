"""A task's events as server-sent events: the text that a browser's `EventSource` reads."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import AgentAuthFatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocks_worker.client.events import TaskEvent

#: A line that every reader leaves aside, and that keeps what lies between from hanging up.
KEEP_ALIVE = ": keep-alive\n\n"


def block(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """Return one event: its type, its data as one line of JSON, and its number."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def blocks_of(events: Iterable[TaskEvent | None], standing: Callable[[], dict[str, Any]]) -> Iterator[str]:
    """Yield the blocks of a task; None among its events is a while without one."""
    told: dict[str, Any] = standing()
    yield block("state", told)
    for event in _readable(events):
        now = standing()
        if now != told:
            told = now
            yield block("state", told)
        if event is None:
            yield KEEP_ALIVE
            continue
        yield block(event.type, event.raw, event.seq)
        if event.type == "terminal":
            return
    yield block("closed", standing())


def _readable(events: Iterable[TaskEvent | None]) -> Iterator[TaskEvent | None]:
    """Yield what there is to be read: with the credential it ends, and a browser can only be told that it does."""
    with contextlib.suppress(AgentAuthFatalError):
        yield from events
