"""What may be hooked round a run: features live in hooks, the run itself stays a short list of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.worker.run import Ending, Run


class Middleware:
    """Override what you need. A hook that raises is logged, and the run goes on."""

    def before_run(self, run: Run) -> None:
        """Be told on the run's thread, just before its handler is called."""

    def on_cancel(self, run: Run) -> None:
        """Be told, on whatever thread brought the cancel, that a run was asked to stop."""

    def after_run(self, run: Run, ending: Ending) -> None:
        """Be told once how the run ended; its handler may still be at work when a limit ended it."""
