"""The chain of middleware, called in order and back, each hook in its own guard."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.worker.middleware.base import Middleware

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.worker.run import Ending, Run

_logger = logging.getLogger(__name__)


class Hooks:
    """Tell every middleware; what one of them raises is logged and goes no further."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        self._before_run = [one.before_run for one in middleware if _has(one, "before_run")]
        self._on_cancel = [one.on_cancel for one in middleware if _has(one, "on_cancel")]
        self._after_run = [one.after_run for one in reversed(middleware) if _has(one, "after_run")]

    def before_run(self, run: Run) -> None:
        """Tell that the handler is about to be called."""
        _tell(self._before_run, run)

    def on_cancel(self, run: Run) -> None:
        """Tell that the run was asked to stop."""
        _tell(self._on_cancel, run)

    def after_run(self, run: Run, ending: Ending) -> None:
        """Tell how the run ended, in reverse order."""
        _tell(self._after_run, run, ending)


def _has(middleware: Middleware, hook: str) -> bool:
    """Tell whether it says something at this hook."""
    return getattr(type(middleware), hook, None) is not getattr(Middleware, hook)


def _tell(hooks: Sequence[Callable[..., None]], run: Run, *ending: Ending) -> None:
    for hook in hooks:
        try:
            hook(run, *ending)
        except Exception:
            # A hook's own trouble is not the task's.
            _logger.exception("hook_failed", extra={"task": run.task_id, "hook": getattr(hook, "__qualname__", "?")})
