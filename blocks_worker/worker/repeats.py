"""When reports may be sent again after the hub could not be asked: one pause for all, which grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Backoff

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy

_AT_ONCE = float("-inf")


class Repeats:
    """Be the pause after requests that failed; its lock is the owner's, and held in each verb."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._backoff = Backoff(entropy, cap=15.0)
        #: Nothing is sent before then.
        self.not_before = _AT_ONCE
        #: How often the hub was told to be back: what failed on the way there has no pause after it.
        self.returns = 0
        #: Why the last request failed, in few words; None since one was answered.
        self._trouble: tuple[str, object] | None = None

    def hub_is_back(self) -> None:
        """Let what waits go at once: the hub answers again."""
        self._backoff.reset()
        self.returns += 1
        self.not_before = _AT_ONCE

    def failed(self, error: Exception, returns: int) -> bool:
        """Make a pause after a request that left when the hub had been back so often; tell whether its error is new."""
        now = self._clock.monotonic()
        # Of two that were under way together and failed, the first one has made it.
        if self.not_before <= now:
            pause = self._backoff.after(error)
            if self.returns == returns:
                self.not_before = now + pause
        trouble = (type(error).__name__, getattr(error, "status", None))
        is_new, self._trouble = trouble != self._trouble, trouble
        return is_new

    def recovered(self) -> bool:
        """End the pause, for a request was answered; tell whether there was trouble before."""
        self._backoff.reset()
        had_trouble, self._trouble = self._trouble is not None, None
        if had_trouble:
            self.not_before = _AT_ONCE
        return had_trouble

    def one_later(self) -> float:
        """Return when a single report may be repeated that the hub could not deal with."""
        return self._clock.monotonic() + self._backoff.next(0.2)
