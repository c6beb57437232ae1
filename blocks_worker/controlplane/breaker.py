"""When a hub that fails is left alone: after some failures in a row one call at a time finds out whether it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Backoff

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy

#: Failures in a row after which only probes go.
FAILURES = 5
#: Least and most seconds from one probe that failed to the next.
LEAST_PAUSE = 0.5
LONGEST_PAUSE = 6.0


class Breaker:
    """Decide whether a call goes: all do until `FAILURES` failed in a row, then one at a time, after pauses.

    The first answer, whoever got it, lets all go again.
    """

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._backoff = Backoff(entropy, first=0.5, cap=LONGEST_PAUSE)
        self._failures = 0
        self._probes_at = 0.0
        self._is_probing = False

    @property
    def failures(self) -> int:
        """How many calls failed in a row; of those that began before the last of them some are not counted."""
        return self._failures

    @property
    def is_open(self) -> bool:
        """Whether only probes go."""
        return self._failures >= FAILURES

    def pause(self) -> float | None:
        """Return the seconds until the next probe may go, 0 where anybody may; None while one is under way."""
        if not self.is_open:
            return 0.0
        return None if self._is_probing else max(0.0, self._probes_at - self._clock.monotonic())

    def enter(self) -> bool:
        """Begin a call that may go now, or goes in any case; tell whether it is the probe."""
        is_probe = self.is_open and not self._is_probing
        self._is_probing |= is_probe
        return is_probe

    def left(self, *, is_probe: bool) -> None:
        """Take note of the end of a call that says nothing about the hub."""
        self._is_probing &= not is_probe

    def failed(self, *, is_probe: bool) -> None:
        """Take note of a failure; what began before the breaker opened makes it no worse."""
        self.left(is_probe=is_probe)
        if self.is_open and not is_probe:
            return
        self._failures += 1
        if self.is_open:
            self._probes_at = self._clock.monotonic() + self._backoff.next(LEAST_PAUSE)

    def answered(self, *, is_probe: bool) -> None:
        """Take note of an answer."""
        self.left(is_probe=is_probe)
        self._failures = 0
        self._backoff.reset()
