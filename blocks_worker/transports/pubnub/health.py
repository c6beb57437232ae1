"""How a subscription stands with its network: what each failure means for the next try, and when to start anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Backoff
from blocks_worker.transports.pubnub.outcomes import Kind

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy

#: Timeouts in a row after which the connections are thrown away.
TIMEOUTS = 3
#: Bad replies in a row on one position after which the reader goes round whatever is there.
BAD_REPLIES = 5
#: Refusals in a row up to which the owner is told of each that a new token did not mend: it may be another's network.
REFUSALS = 2
#: Seconds before a refusal that a new token did not mend is met again: the hosted network remembers refusals.
REFUSED_PAUSE = (20.0, 40.0)
#: The same where the network is on this machine, and remembers none.
NEARBY_REFUSED_PAUSE = (5.0, 10.0)
#: Longest pause, seconds, when the network asks for less.
THROTTLED_CAP = 60.0
#: Seconds of nobody there, or somebody else, after which the owner is told: the network may have moved.
LOST = 30.0
#: Seconds by which the two clocks may part between two looks; more means that the machine slept.
DRIFT = 60.0

#: Longest pause in seconds before the next try: with a connection that is slow to come less than 20 seconds.
FAR_CAP = 12.0
#: The same where the network is on this machine: a crowd does no harm there.
NEARBY_CAP = 2.0

#: Failures after which it is worth asking for a first, immediate answer before a poll that is held.
_LINK = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.BROKEN, Kind.SERVER, Kind.MISPLACED})
_ELSEWHERE = frozenset({Kind.UNREACHABLE, Kind.MISPLACED, Kind.REFUSED})


class Health:
    """Take note of good and bad polls; everything is asked and told by the reader that is current."""

    def __init__(self, clock: Clock, entropy: Entropy, *, nearby: bool = False) -> None:
        self._clock = clock
        self._entropy = entropy
        self._backoff = Backoff(entropy, cap=NEARBY_CAP if nearby else FAR_CAP)
        self._refused_pause = NEARBY_REFUSED_PAUSE if nearby else REFUSED_PAUSE
        self._throttled = Backoff(entropy, first=1.0, cap=THROTTLED_CAP)
        self.timeouts = 0
        self.bad_replies = 0
        self.refusals = 0
        #: Failures since the last good poll.
        self.failures = 0
        #: Whether the connection itself failed since the last good poll.
        self.link_lost = False
        self._lost_since: float | None = None
        self._last_ok = self._now()
        self._last_look = self._last_ok

    def good(self) -> bool:
        """Note a completed, valid poll; tell whether it ends a time of failures."""
        failed = self.failures > 0
        self.timeouts = self.bad_replies = self.refusals = self.failures = 0
        self._lost_since = None
        self.link_lost = False
        self._backoff.reset()
        self._throttled.reset()
        self._last_ok = self._now()
        return failed

    def bad(self, kind: Kind) -> float:
        """Note a failure; return the seconds to wait before the next try."""
        self.failures += 1
        self.timeouts = self.timeouts + 1 if kind is Kind.TIMEOUT else 0
        self.bad_replies = self.bad_replies + 1 if kind is Kind.BAD_REPLY else 0
        self.refusals = self.refusals + 1 if kind is Kind.DENIED else 0
        self.link_lost = self.link_lost or kind in _LINK
        if kind not in _ELSEWHERE:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = self._clock.monotonic()
        if kind is Kind.DENIED:
            return self._entropy.uniform(*self._refused_pause)
        if kind is Kind.THROTTLED:
            return self._throttled.next(at_least=1.0)
        return self._backoff.next()

    def lost(self) -> bool:
        """Tell, once, that nobody has been there for long."""
        if self._lost_since is None or self._clock.monotonic() - self._lost_since < LOST:
            return False
        self._lost_since = float("inf")
        return True

    def age(self) -> float:
        """Return the seconds since the last good poll, by the clock that says more: one stands still in a sleep."""
        monotonic, wall = self._now()
        return max(monotonic - self._last_ok[0], wall - self._last_ok[1], 0.0)

    def slept(self) -> bool:
        """Tell whether the machine slept since the last time this was asked."""
        before, self._last_look = self._last_look, self._now()
        return (self._last_look[1] - before[1]) - (self._last_look[0] - before[0]) >= DRIFT

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._clock.wall_ms() / 1000
