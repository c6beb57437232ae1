"""When a reader speaks to its writers: at once when it has to, soon after something came, and seldom in between."""

from __future__ import annotations

#: Seconds between two words to a writer that is to know that its reader is there; on a stream on which nothing
#: happens they double up to the second number.
ACK_EVERY = 5.0
ACK_QUIET = 60.0

_NEVER = float("inf")


class Pace:
    """Know when the next word is due; times are monotonic seconds, handed in. The caller's lock guards it."""

    def __init__(self, due: float = _NEVER) -> None:
        self.due = due
        self._pause = ACK_EVERY
        #: The last word was, or will be, that there comes no other.
        self.is_last = False

    def at_once(self, now: float) -> None:
        """Speak now."""
        self.due = now

    def stir(self, now: float) -> bool:
        """Speak soon, for something came; tell whether that is sooner than it was."""
        self._pause = ACK_EVERY
        was, self.due = self.due, min(self.due, now + ACK_EVERY)
        return self.due < was

    def end(self, now: float) -> bool:
        """Speak once more, and say that it is the last word; tell whether it was not said before."""
        if self.is_last:
            return False
        self.is_last = True
        self.due = now
        return True

    def be_silent(self) -> None:
        """Speak no more."""
        self.due = _NEVER

    def spoke(self, now: float, *, is_quiet: bool) -> None:
        """Note that it spoke; `is_quiet`: there was nothing to be said, and nothing is waited for."""
        self.due = _NEVER if self.is_last else now + self._pause
        self._pause = min(2 * self._pause, ACK_QUIET) if is_quiet else ACK_EVERY
