"""The chain of middleware, called in order and back, each hook in its own guard."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.worker.middleware.base import Middleware
    from blocks_worker.worker.run import Ending, Run

_logger = logging.getLogger(__name__)


class Hooks:
    """Tell every middleware; what one of them raises is logged and goes no further."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        self._middleware = tuple(middleware)

    def before_run(self, run: Run) -> None:
        """Tell that the handler is about to be called."""
        for each in self._middleware:
            _guarded(run, each.before_run, run)

    def on_cancel(self, run: Run) -> None:
        """Tell that the run was asked to stop."""
        for each in self._middleware:
            _guarded(run, each.on_cancel, run)

    def after_run(self, run: Run, ending: Ending) -> None:
        """Tell how the run ended, in reverse order."""
        for each in reversed(self._middleware):
            _guarded(run, each.after_run, run, ending)


def _guarded(run: Run, hook: Callable[..., None], *told: object) -> None:
    try:
        hook(*told)
    except Exception:
        # A hook's own trouble is not the task's.
        _logger.exception("hook_failed", extra={"task": run.task_id, "hook": getattr(hook, "__qualname__", "?")})
