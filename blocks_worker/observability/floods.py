"""How many lines one task may write to the log: a handler that writes without end fills no disk and hides no other."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

#: Lines of one task in one second; what comes beyond is counted and left out until the second is over.
LINES = 1000
PERIOD = 1.0
#: Tasks remembered; the one that wrote longest ago is forgotten first.
TASKS = 4096


@dataclass
class _Told:
    """What one task has written since a moment."""

    since: float
    lines: int = 0
    dropped: int = 0


class FloodGate:
    """Count the lines of each task. Its owner serialises the calls."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, _Told] = OrderedDict()
        #: Lines left out since the start.
        self.dropped = 0

    def passes(self, task: str, now: float) -> bool:
        """Tell whether one more line of the task is written; `now` are seconds, which may jump."""
        told = self._tasks.get(task)
        if told is None or not 0 <= now - told.since < PERIOD:
            told = self._tasks[task] = _Told(now, dropped=0 if told is None else told.dropped)
            if len(self._tasks) > TASKS:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(task)
        told.lines += 1
        if told.lines <= LINES:
            return True
        told.dropped += 1
        self.dropped += 1
        return False

    def left_out(self, task: str) -> int:
        """Return how many lines of the task were left out since this was asked last."""
        told = self._tasks.get(task)
        if told is None:
            return 0
        dropped, told.dropped = told.dropped, 0
        return dropped
