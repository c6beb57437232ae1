"""Play many histories: ./scripts/simulate --histories 5000 --seed 0, or --minutes 480 for a night.

A wrong one is shrunk and told, step by step.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simulation.play import play_seed
from simulation.shrink import Shrinker, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Wrong histories that are shrunk and told; more would say the same.
MOST_TOLD = 3
#: Histories that a process plays at once.
PART = 50


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


def _parts(first: int, histories: int | None, until: float) -> Iterator[range]:
    """Yield the seeds in parts: as many as are asked for, or until the time is over."""
    for begin in itertools.count(first, PART):
        left = PART if histories is None else min(PART, first + histories - begin)
        if left <= 0 or time.monotonic() >= until:
            return
        yield range(begin, begin + left)


def played(parts: Iterator[range], jobs: int) -> Figures:
    """Play them in several processes, each of which gets the next part when it has done one."""
    figures = Figures()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(figures_of, part) for part in itertools.islice(parts, jobs)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                figures.join(each.result())
            waiting |= {pool.submit(figures_of, part) for part in itertools.islice(parts, len(done))}
    return figures


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Play, print the figures, tell of what went wrong; exit 1 when something did."""
    parser = argparse.ArgumentParser(description="Play simulated histories of hub, workers and consumers.")
    parser.add_argument("--histories", type=int, help="how many (1000)")
    parser.add_argument("--minutes", type=float, help="or for how long")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--jobs", type=int, default=2, help="processes that play")
    asked = parser.parse_args()
    begun = time.monotonic()
    until = float("inf") if asked.minutes is None else begun + asked.minutes * 60
    histories = 1000 if asked.histories is None and asked.minutes is None else asked.histories
    all_figures = played(_parts(asked.seed, histories, until), asked.jobs)
    last = asked.seed + all_figures.histories - 1
    _say(f"{all_figures}; {time.monotonic() - begun:.0f} s, seeds {asked.seed} to {last}")
    logging.disable(logging.CRITICAL)
    for seed in all_figures.wrong[:MOST_TOLD]:
        _say(told(Shrinker(play_seed(seed)).shrink()))
    _say(f"seeds of wrong histories: {all_figures.wrong}" if all_figures.wrong else "no invariant was broken")
    return 1 if all_figures.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
