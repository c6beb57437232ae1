"""No run that hangs in silence: a request may have to say something within a time, each time."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.protocol.lifecycle import PROGRESS
from blocks_worker.worker.middleware.base import Middleware

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.deadlines import Deadlines, Entry
    from blocks_worker.worker.run import Ending, Run, RunKey


def shorter(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two times, of which either may not be given."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class SilenceLimit(Middleware):
    """End runs that have said nothing for as long as they may.

    The moment is moved only when it has come, so that a run which speaks much pays nothing for it.
    """

    def __init__(self, *, deadlines: Deadlines, run_out: Callable[[Run, str], None], clock: Clock) -> None:
        self._deadlines = deadlines
        self._run_out = run_out
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: dict[RunKey, Entry] = {}

    def before_run(self, run: Run) -> None:
        """Begin to listen to the run, if it has such a limit."""
        if run.progress_timeout is not None:
            self._watch(run, run.progress_timeout)

    def after_run(self, run: Run, ending: Ending) -> None:  # noqa: ARG002 - the base's signature
        """Listen no more."""
        if run.progress_timeout is None:
            return
        with self._lock:
            entry = self._watched.pop(run.key, None)
        if entry is not None:
            self._deadlines.call_off(entry)

    def _watch(self, run: Run, limit: float) -> None:
        with self._lock:
            # Under the lock, with which `after_run` forgets it: else it would be kept when the run has just ended.
            if run.ending is None:
                self._watched[run.key] = self._deadlines.at(run.spoke_at + limit, partial(self._look, run, limit))

    def _look(self, run: Run, limit: float) -> None:
        if self._clock.monotonic() < run.spoke_at + limit:
            self._watch(run, limit)
        else:
            self._run_out(run, PROGRESS)
