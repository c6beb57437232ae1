"""Measure what only our entries are asked for: events, bytes of a stream, memory after many tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.measure import forget_peaks, memory_of, peak_of
from harness.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

#: Seconds behind the last task until memory is looked at: what was in use for it is given back.
_SETTLE = 1.0
#: The handlers of the second worker, which begins when all that every entry is asked for is over.
_HANDLERS = ("--handler", "peers.handlers:tell", "--handler", "peers.handlers:pour", "--no-local")


@dataclass(frozen=True)
class Own:
    """The workloads of one run, behind the others."""

    #: Have the client run a workload of a size; gives what it took and cost of the processes named.
    ask: Callable[[str, int, dict[str, int]], dict[str, Any]]
    python: Path
    env: Mapping[str, str]
    folder: Path

    def measured(self, pids: dict[str, int], amount: Callable[[str], int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Run all; yield what each said."""
        yield "memory", self.memory(amount("memory"), pids)
        args = [str(self.python.parent / "blocks-run"), *_HANDLERS]
        with running(args, self.folder / "handlers.log", env=self.env, folder=self.folder) as worker:
            here = {**pids, "worker": worker}
            self.ask("warm", 1, here)
            yield "events", self.ask("events", amount("events"), here)
            yield "stream", self.stream(amount("stream"), here)

    def memory(self, count: int, pids: dict[str, int]) -> dict[str, Any]:
        """Return what the processes have before and after many tasks, too."""
        before = memories(pids)
        said = self.ask("memory", count, pids)
        time.sleep(_SETTLE)
        return {**said, "rss_before_mib": before, "rss_mib": memories(pids)}

    def stream(self, size: int, pids: dict[str, int]) -> dict[str, Any]:
        """Return by how much each process was larger at its largest than before, too."""
        forget_peaks(pids)
        before = memories(pids)
        said = self.ask("stream", size, pids)
        grown = {role: max(0.0, peak_of(pid) - before[role]) for role, pid in pids.items()}
        return {**said, "peak_growth_mib": grown}


def memories(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the resident MiB of each process."""
    return {role: memory_of(pid) for role, pid in pids.items()}
