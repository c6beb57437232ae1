"""Whether the writer takes new work: not while so much waits, or so long, that those under way would be late."""

from __future__ import annotations

import math

#: When so many sets wait, or the oldest for so many seconds, what is new is turned away. What is under way is bounded
#: by its callers, who each wait for their answer, and to refuse a report or a heartbeat would only make more work.
MAX_WAITING = 2048
MAX_WAIT = 1.0
#: The same when what waits already would take so many seconds at the pace of the last commit: it is all one line, and
#: a heartbeat waits no longer for its answer.
MAX_AHEAD = 4.0
#: One commit takes at most so many sets, or so many seconds of work; as many as the last sync took, up to the second
#: number, where that was more: on a slow disk more of those who wait share a sync.
GROUP_SETS = 512
GROUP_SECONDS = 0.020
SLOW_GROUP_SECONDS = 0.250
#: Seconds after which who was turned away is told to come again.
_SOONEST, _LATEST = 1, 10


class Admission:
    """Know the pace of the writer, and by it who is turned away; the writer tells, anybody asks."""

    def __init__(self) -> None:
        #: Of the last commit: its seconds from the first statement on, those of them for the sync, and how many sets
        #: one like it has room for.
        self._turn = 0.0
        self._sync = 0.0
        self._room = GROUP_SETS

    @property
    def group_seconds(self) -> float:
        """How many seconds of work the next commit takes at most."""
        return max(GROUP_SECONDS, min(self._sync, SLOW_GROUP_SECONDS))

    def committed(self, *, sets: int, seconds: float, sync: float, is_cut: bool) -> None:
        """Take note of a commit; `is_cut`: its time was over before all had their turn."""
        self._turn, self._sync = seconds, sync
        self._room = max(1, sets) if is_cut else GROUP_SETS

    def ahead(self, waiting: int) -> float:
        """Return the seconds after which one more that comes now would be answered."""
        return self._turn * (1 + math.ceil((waiting + 1) / self._room))

    def pause(self, more: int, *, waiting: int, oldest: float) -> int | None:
        """Return the seconds after which `more` new sets may come again; None when they are taken.

        `oldest`: for how many seconds the first of those that wait does so.
        """
        ahead = self.ahead(waiting)
        if waiting + more > MAX_WAITING or (waiting and (oldest > MAX_WAIT or ahead > MAX_AHEAD)):
            return min(max(_SOONEST, math.ceil(ahead)), _LATEST)
        return None
