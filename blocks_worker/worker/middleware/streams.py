"""The streams of a run end with it, however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.worker.middleware.base import Middleware

if TYPE_CHECKING:
    from blocks_worker.worker.run import Ending, Run
    from blocks_worker.worker.streams import WorkerStreams


class StreamEnds(Middleware):
    """Let go of what a run had open: one that ended well has flushed it, any other loses what was on its way."""

    def __init__(self, streams: WorkerStreams) -> None:
        self._streams = streams

    def after_run(self, run: Run, ending: Ending) -> None:  # noqa: ARG002 - the same for every ending
        """End what is still open."""
        self._streams.ended(run)
