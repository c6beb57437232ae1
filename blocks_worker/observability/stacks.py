"""What every thread is at: for the log when a drain takes too long, and on SIGUSR1."""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger(__name__)

#: Frames of one stack that are told, the innermost.
MOST_FRAMES = 30


def log_stacks(reason: str, tasks: Mapping[int, str] | None = None) -> None:
    """Log one record a thread, with its stack, the innermost call first; callers say why.

    `tasks`: what the threads of these numbers are at.
    """
    frames = sys._current_frames()  # noqa: SLF001 - the way that Python documents
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            inner = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=MOST_FRAMES, lookup_lines=False)
            stack = [f"{each.filename}:{each.lineno} {each.name}" for each in inner]
            task = (tasks or {}).get(thread.ident or 0)
            at = {} if task is None else {"task": task}
            _logger.warning("thread_stack", extra={"why": reason, "thread_name": thread.name, "stack": stack, **at})


def stacks_on_signal(tell: Callable[[], object]) -> None:
    """Have SIGUSR1 write the stacks of all threads to standard error, where the log goes, and then `tell`.

    It is done below Python: it works while the main thread hangs, or while one thread lets no other run. Which task
    is on which thread is for whoever is told: that takes a main thread that gets on. Where there is no such signal,
    or no such file, nothing is done.
    """
    number = getattr(signal, "SIGUSR1", None)
    try:
        if number is not None:
            signal.signal(number, lambda *_: tell())
            faulthandler.register(number, file=sys.stderr, all_threads=True, chain=True)
    except (OSError, ValueError, AttributeError):  # standard error is no file of the system
        _logger.debug("no_stacks_on_signal", exc_info=True)
