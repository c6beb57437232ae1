"""Signals become entries of a queue: a handler does nothing else, the main thread acts."""

from __future__ import annotations

import os
import signal
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from blocks_worker.cli.exits import Exit

if TYPE_CHECKING:
    from types import FrameType

#: Whoever sends three is not asking any more.
_LAST = 3


class Signals:
    """Own SIGTERM and SIGINT of a process: the first two are told in `heard`, the third ends the process.

    A `SimpleQueue` may be fed while the same thread waits on it; an event's lock could be held just then.
    """

    def __init__(self) -> None:
        self.heard: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.count = 0

    def install(self) -> None:
        """Take both signals over; only the main thread may call it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= _LAST:
            os._exit(Exit.INTERRUPTED)
        self.heard.put(("signal", signal.Signals(number).name))
