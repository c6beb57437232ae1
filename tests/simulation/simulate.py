"""Play many histories: ./scripts/simulate --histories 5000 --seed 0; a wrong one is shrunk and told, step by step."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simulation.play import play_seed
from simulation.shrink import Shrinker, told

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Wrong histories that are shrunk and told; more would say the same.
MOST_TOLD = 3


class Figures:
    """Add up what histories show."""

    def __init__(self) -> None:
        self.histories = self.tasks = self.executions = 0
        self.recoveries: list[float] = []
        self.faults: Counter[str] = Counter()
        self.wrong: list[int] = []

    def add(self, seed: int) -> None:
        """Play a history and take it in."""
        played = play_seed(seed)
        self.histories += 1
        self.tasks += len(played.story.tasks)
        self.executions += played.executions
        self.recoveries.append(played.recovery)
        self.faults.update(played.history.faults)
        if played.wrongs:
            self.wrong.append(seed)

    def join(self, other: Figures) -> None:
        """Take in what others added up."""
        self.histories += other.histories
        self.tasks += other.tasks
        self.executions += other.executions
        self.recoveries += other.recoveries
        self.faults.update(other.faults)
        self.wrong += other.wrong

    def __str__(self) -> str:
        recovery = sorted(self.recoveries)
        middle, last = recovery[len(recovery) // 2], recovery[len(recovery) * 99 // 100]
        return (
            f"{self.histories} histories, {len(self.wrong)} wrong; "
            f"{self.executions / self.tasks:.2f} executions a task; "
            f"all ended {middle:.1f} s (p50), {last:.1f} s (p99), {recovery[-1]:.1f} s (most) after the last fault; "
            f"{sum(self.faults.values())} faults: {dict(sorted(self.faults.items()))}"
        )


def figures_of(seeds: Iterable[int]) -> Figures:
    """Play these histories."""
    logging.disable(logging.CRITICAL)
    figures = Figures()
    for seed in seeds:
        figures.add(seed)
    return figures


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Play, print the figures, tell of what went wrong; exit 1 when something did."""
    parser = argparse.ArgumentParser(description="Play simulated histories of hub, workers and consumers.")
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--jobs", type=int, default=2, help="processes that play")
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed + asked.histories)
    begun, all_figures = time.monotonic(), Figures()
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        for part in pool.map(figures_of, [seeds[first : first + 50] for first in range(0, len(seeds), 50)]):
            all_figures.join(part)
    _say(f"{all_figures}; {time.monotonic() - begun:.0f} s, seeds {seeds[0]} to {seeds[-1]}")
    logging.disable(logging.CRITICAL)
    for seed in all_figures.wrong[:MOST_TOLD]:
        _say(told(Shrinker(play_seed(seed)).shrink()))
    _say(f"seeds of wrong histories: {all_figures.wrong}" if all_figures.wrong else "no invariant was broken")
    return 1 if all_figures.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
