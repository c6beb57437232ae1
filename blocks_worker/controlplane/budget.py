"""How much may be asked again: a tenth of what is asked, and a few times more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock

#: Repeats that are allowed at first, and the most there ever are: enough for an outage of seconds.
ALLOWANCE = 10.0
#: What each call that is no repeat adds to them.
SHARE = 0.1
#: Seconds after a failure from which the same call is none any more: who asks so rarely storms nobody.
PACE = 4.0
#: Most places whose failures are remembered; beyond, the oldest is forgotten.
_MOST = 256


class Budget:
    """Say which calls may go. A repeat is a call to a place that failed less than `PACE` seconds ago.

    So one who is alone with his repeats has `ALLOWANCE` of them at once, and one each `PACE` seconds from then on;
    many who ask much have a tenth.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = ALLOWANCE
        #: When each place failed, where that was its last answer; oldest first.
        self._failed: dict[str, float] = {}

    def allows(self, place: str) -> bool:
        """Tell whether a call may go now, and count it."""
        failed = self._failed.get(place)
        if failed is None or self._clock.monotonic() - failed >= PACE:
            self._left = min(ALLOWANCE, self._left + SHARE)
            return True
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def failed(self, place: str) -> None:
        """Take note that a call failed in a way that passes."""
        self._failed.pop(place, None)
        self._failed[place] = self._clock.monotonic()
        if len(self._failed) > _MOST:
            del self._failed[next(iter(self._failed))]

    def answered(self, place: str) -> None:
        """Take note that a call was answered."""
        self._failed.pop(place, None)
