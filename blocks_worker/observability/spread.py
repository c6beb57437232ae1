"""How a measured number spreads over buckets: a few plain integers, counted where it happens."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Buckets(NamedTuple):
    """A spread at one moment: how many were at most each bound, how many in all, and their sum."""

    bounds: tuple[float, ...]
    up_to: tuple[int, ...]
    total: int
    sum: float


class Spread:
    """Count numbers by their size. One thread notes, others may read at any time."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def note(self, value: float) -> None:
        """Count one number."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> Buckets:
        """Return what was counted so far."""
        *up_to, total = accumulate(self._counts)
        return Buckets(self._bounds, tuple(up_to), total, self._sum)
