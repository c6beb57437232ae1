"""When a new task may first be offered, in which place, and how long it may wait: pure, by the hub's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.answers import RefusedError, problem
from blocks_worker.protocol.tasks import LEVEL_MS, MAX_SECONDS

if TYPE_CHECKING:
    from blocks_worker.protocol.tasks import SubmitTask


def ready_at(request: SubmitTask, now: int, deadline: int | None) -> int | None:
    """Return when a new task may be offered at the earliest; None: at once.

    Raises:
        RefusedError: never, or only in years; or it is said in two ways.
    """
    if request.delay is not None and request.not_before is not None:
        raise _refusal("a task has a delay or a notBefore, not both: leave one out")
    ready = request.not_before if request.delay is None else now + round(request.delay * 1000)
    if ready is None or ready <= now:
        return None
    if ready > now + MAX_SECONDS * 1000:
        raise _refusal("a task can wait a year at most: choose an earlier notBefore")
    if deadline is not None and ready >= deadline:
        raise _refusal("the deadline comes before the task may begin: choose a later one, or an earlier notBefore")
    return ready


def rank(request: SubmitTask, now: int, ready: int | None) -> int:
    """Return the place of a task in the queue, the lowest first; who waits long enough is before any later one."""
    return (ready or now) - LEVEL_MS * request.priority


def queue_until(request: SubmitTask, now: int, ready: int | None) -> int | None:
    """Return until when a task may wait for its first run: the time begins when it may be offered."""
    if request.queue_ttl is None:
        return None
    return (ready or now) + int(request.queue_ttl * 1000)


def _refusal(text: str) -> RefusedError:
    return RefusedError(problem(400, "InvalidInput", text, {"reason": "notBefore"}))
