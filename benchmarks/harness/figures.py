"""Numbers out of numbers: quantiles, medians with their range, and which runs count."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The share of the machine that others may use in a run that counts as clean.
CLEAN = 0.15
#: As many clean runs make a median; with fewer, all runs count and the cell is marked.
ENOUGH = 3

#: Names of floors that other figures are held against; of the commits by whether they are synced.
WEBSOCKET = "WebSocket echo, 400 bytes, a reader thread hands over"
COMMITS = {
    True: "SQLite commit of one row, synchronous=FULL",
    False: "SQLite commit of one row, synchronous=NORMAL",
}


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies: one that was measured, never one between two."""
    if not values:
        raise ValueError("a quantile needs values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


@dataclass(frozen=True)
class Run:
    """One measured number, and what others did to the machine meanwhile."""

    value: float
    others: float

    @property
    def is_clean(self) -> bool:
        """Tell whether the machine was nearly ours."""
        return self.others < CLEAN


@dataclass(frozen=True)
class Summary:
    """What the rounds said about one number."""

    median: float
    low: float
    high: float
    runs: int
    dropped: int
    is_marked: bool


def summary(runs: Sequence[Run]) -> Summary | None:
    """Return the median of the clean runs; of all, marked, when fewer than three are clean. None without runs."""
    if not runs:
        return None
    clean = [run.value for run in runs if run.is_clean]
    is_marked = len(clean) < ENOUGH
    values = [run.value for run in runs] if is_marked else clean
    return Summary(statistics.median(values), min(values), max(values), len(values), len(runs) - len(values), is_marked)
