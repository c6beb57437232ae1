"""A cancel that is the user's to carry out: told, in place of setting the run's cancel event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import ServiceThread
from blocks_worker.worker.middleware.base import Middleware
from blocks_worker.worker.override import TaskPubNub

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.worker.run import Run

_logger = logging.getLogger(__name__)


class CancelTold(Middleware):
    """Call the user's function with the task and its network, on a thread of its own: who brings a cancel never waits.

    The function is to have the run end; one that does not end is ended when the grace of a cancel is over.
    """

    def __init__(self, function: Callable[[str, Any], object], network: Any) -> None:
        self._function = function
        self._network = network

    def before_run(self, run: Run) -> None:
        """Tell of a cancel that came before the run could hear of it."""
        self.on_cancel(run)

    def on_cancel(self, run: Run) -> None:
        """Tell of a cancel; of a time that is over the run's own event tells."""
        voice = run.voice
        if voice is not None and run.is_cancelled and run.ending is None:
            pubnub = TaskPubNub(voice, self._network)
            ServiceThread(f"cancel-{run.task_id}", lambda: self._tell(run, pubnub), daemon=True).start()

    def _tell(self, run: Run, pubnub: TaskPubNub) -> None:
        try:
            self._function(run.task_id, pubnub)
        except Exception:  # the function is the user's: its trouble goes no further
            _logger.exception("on_cancel_task_failed", extra={"task": run.task_id})
