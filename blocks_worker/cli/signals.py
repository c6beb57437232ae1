"""Signals become entries of a queue: a handler does nothing else, the main thread acts."""

from __future__ import annotations

import contextlib
import os
import signal
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from blocks_worker.cli.exits import Exit
from blocks_worker.concurrency import Clock

if TYPE_CHECKING:
    from types import FrameType

#: Whoever sends three is not asking any more.
_LAST = 3
#: Seconds after a signal that counted in which another is taken for its echo: `timeout` signals the process and its
#: group, a terminal and a script that passes signals on do so too.
ECHO = 0.5


class Signals:
    """Own SIGTERM and SIGINT of a process: the first two are told in `heard`, the third ends the process.

    Between `end_at_once` and `begin` the first one ends it: nothing is there yet that has to be taken down.

    A `SimpleQueue` may be fed while the same thread waits on it; an event's lock could be held just then.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.heard: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.count = 0
        #: Cleared by whoever logs the stacks.
        self.stacks_wanted = False
        self._clock = clock or Clock()
        self._counted_at = float("-inf")
        self._at_once: Exit | None = None

    def end_at_once(self, code: Exit = Exit.OK) -> None:
        """Have a signal end the process with this code, whatever the main thread is at: importing perhaps."""
        self._at_once = code

    def begin(self) -> None:
        """Have signals told from now on."""
        self._at_once = None

    def install(self) -> None:
        """Take both signals over; only the main thread may call it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def want_stacks(self) -> None:
        """Have the main thread log all stacks; one such entry waits at most."""
        if not self.stacks_wanted:
            self.stacks_wanted = True
            self.heard.put(("stacks", None))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock.monotonic()
        if now - self._counted_at < ECHO:
            return
        self._counted_at = now
        self.count += 1
        name = signal.Signals(number).name
        if self._at_once is not None:
            _end(self._at_once, f"{name} received before the start was done: stopped")
        if self.count >= _LAST:
            _end(Exit.INTERRUPTED, f"{name} received a third time: ended at once")
        self.heard.put(("signal", name))


def _end(code: Exit, why: str) -> None:
    # Not through a stream: what was interrupted may hold its lock.
    with contextlib.suppress(OSError):
        os.write(2, f"blocks-run: {why}\n".encode())
    os._exit(code)
