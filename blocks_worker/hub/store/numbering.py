"""The number of the next stored event: it only rises, also past rows that were purged."""

from __future__ import annotations


class Numbering:
    """Count events; only the writer asks for the next number, so there is no lock."""

    def __init__(self) -> None:
        self._last = 0

    def start_after(self, last: int) -> None:
        """Go on behind the highest number that was ever given."""
        self._last = max(self._last, last)

    @property
    def last(self) -> int:
        """The highest number that is not to be given any more."""
        return self._last

    def leave_out(self, count: int) -> None:
        """Give none of the next `count` numbers: somebody may have seen them."""
        self._last += count

    def next(self) -> int:
        """Return a number that was never given before."""
        self._last += 1
        return self._last
