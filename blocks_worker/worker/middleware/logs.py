"""One line in the log for each ended task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.worker.middleware.base import Middleware

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.run import Ending, Run

_logger = logging.getLogger(__name__)


class TaskLog(Middleware):
    """Log the end of each run: its state and how long it took."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def after_run(self, run: Run, ending: Ending) -> None:
        """Log the line; that somebody else was faster to claim a task is no end of one, and told as a lost offer."""
        if run.answer is None or not _logger.isEnabledFor(logging.INFO):
            return
        fields: dict[str, object] = {
            "task": run.task_id,
            "state": ending.state,
            "seconds": round(self._clock.monotonic() - run.started_at, 3),
        }
        if ending.error_code or ending.reason:
            fields["reason"] = ending.reason or ending.error_code
        _logger.info("task_finished", extra=fields)
