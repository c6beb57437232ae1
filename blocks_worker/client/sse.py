"""A task's events as server-sent events: the text that a browser's `EventSource` reads."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import AgentAuthFatalError
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocks_worker.client.events import TaskEvent

#: A line that every reader leaves aside, and that keeps what lies between from hanging up.
KEEP_ALIVE = ": keep-alive\n\n"


#: Seconds between two of them at least: without an end of its own a shorter time would only be work.
LEAST_KEEP_ALIVE = 0.05


def check_keep_alive(seconds: float) -> None:
    """Refuse what is no time to wait.

    Raises:
        TypeError: it is no number.
        ValueError: it is below `LEAST_KEEP_ALIVE`, or longer than a thread can wait.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"keep_alive is a number of seconds, at least {LEAST_KEEP_ALIVE}, not {seconds!r}")
    if not LEAST_KEEP_ALIVE <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"keep_alive is a number of seconds, at least {LEAST_KEEP_ALIVE}, not {seconds!r}")


def block(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """Return one event: its type, its data as one line of JSON, and its number."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def blocks_of(events: Iterable[TaskEvent | None], standing: Callable[[], dict[str, Any]]) -> Iterator[str]:
    """Yield the blocks of a task; None among its events is a while without one.

    How it stands is known before its last events were yielded. That it is over is told behind them, so that a reader
    who stops there has everything.
    """
    told: dict[str, Any] | None = None
    now = standing()
    if now["state"] not in SHOWN_TERMINAL:
        told = now
        yield block("state", now)
    for event in _readable(events):
        now = standing()
        is_last = event is not None and event.type == "terminal"
        if now != told and (is_last or now["state"] not in SHOWN_TERMINAL):
            told = now
            yield block("state", now)
        if event is None:
            yield KEEP_ALIVE
            continue
        yield block(event.type, event.raw, event.seq)
        if is_last:
            return
    yield block("closed", standing())


def _readable(events: Iterable[TaskEvent | None]) -> Iterator[TaskEvent | None]:
    """Yield what there is to be read: with the credential it ends, and a browser can only be told that it does."""
    with contextlib.suppress(AgentAuthFatalError):
        yield from events
