"""How soon a thread that computes gives way: the interpreter's switch interval, short only while somebody needs it.

A thread that waits for the interpreter asks for it once an interval. Where handlers compute for long, a short one lets
the link and the reports through. Where many short runs wake many threads at once it has all of them ask again and
again, which took a quarter of a worker's processor time.
"""

from __future__ import annotations

import sys

#: Seconds: the interpreter's own, and that for when it is held for long.
USUAL = 0.005
SHORT = 0.0002
#: Seconds by which a thread that only waits comes late when another one holds the interpreter until it is asked.
_LATE = 0.003
#: How often, one after another, it has to come late; and after how many rounds it is tried again without.
_TIMES = 2
_ROUNDS = 10


class GivingWay:
    """Set the interval by how late somebody came round who had nothing to do but that; one a process, of one thread."""

    def __init__(self) -> None:
        self._late = 0
        self._rounds = 0
        sys.setswitchinterval(USUAL)

    def came_round(self, late: float) -> None:
        """Take note of a round that ended so many seconds late."""
        if self._rounds:
            self._rounds -= 1
            if not self._rounds:
                sys.setswitchinterval(USUAL)
            return
        self._late = self._late + 1 if late >= _LATE else 0
        if self._late >= _TIMES:
            self._late, self._rounds = 0, _ROUNDS
            sys.setswitchinterval(SHORT)
