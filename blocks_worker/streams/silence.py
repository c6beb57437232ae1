"""How long a stream is still read whose writer is gone: until what the network kept of it has come."""

from __future__ import annotations

#: Seconds without a frame after which nothing more is on its way, and the same before the first one: what was said
#: before this side listened has to be fetched.
QUIET = 1.0
QUIET_BEFORE_FIRST = 5.0


class Silence:
    """Know since when nothing came of a writer that is gone. Times are monotonic seconds, handed in."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._heard = False
        self._away = False

    def begin(self, now: float) -> None:
        """Say that the writer is gone; the first word counts."""
        if self._since is None:
            self._since = now

    def heard(self, now: float) -> None:
        """Say that a frame came."""
        self._heard = True
        self._stir(now)

    def link(self, now: float, *, there: bool) -> None:
        """Say that the network is away, or there again: meanwhile silence says nothing."""
        self._away = not there
        self._stir(now)

    def due(self) -> float:
        """Return when the stream is over, if nothing comes until then."""
        if self._since is None or self._away:
            return float("inf")
        return self._since + (QUIET if self._heard else QUIET_BEFORE_FIRST)

    def _stir(self, now: float) -> None:
        if self._since is not None:
            self._since = now
