"""A terminal event as an agent writes it: read as the end of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.client.events import TaskEvent


def ending_of(event: Mapping[str, Any] | TaskEvent) -> Ending:
    """Return the end that the event tells: its state, and as far as it has them error, errorCode and reason.

    Raises:
        TypeError: it is no event, or a text in it is none.
        ValueError: its state is not one in which a task ends.
    """
    if not hasattr(event, "get"):
        raise TypeError(f"a terminal event is a dict or a TaskEvent, not {type(event).__name__}")
    state = event.get("state")
    if state not in SHOWN_TERMINAL:
        raise ValueError(f"a terminal event has the state {', '.join(sorted(SHOWN_TERMINAL))}, not {state!r}")
    for key in ("error", "errorCode", "reason"):
        if not isinstance(event.get(key), (str, type(None))):
            raise TypeError(f"{key} of a terminal event is text, not {event.get(key)!r}")
    code = event.get("errorCode") or ("handler_error" if state == "failed" else None)
    return Ending(state, error=event.get("error"), error_code=code, reason=event.get("reason"))
