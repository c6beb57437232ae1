"""What a worker and a hub cost that have nothing to do: memory, wake-ups of all threads, processor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.bench import Row, bench, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
#: Seconds after which a process that was started has come to rest: with no task for ten it comes round less often.
REST = 15.0
#: RSS in MiB, and wake-ups a second, of a worker by its transport; of a hub there is no goal of the latter.
GOALS = {"hublink": (45, 2.0), "pubnub": (55, 4.0)}
HUB_GOAL = 90
#: Percent of one processor.
MOST_CPU = 0.3


@dataclass(frozen=True)
class Usage:
    """What one process has used since it began, and has."""

    wake_ups: int
    cpu: float
    rss: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Look: a thread wakes up as often as it went to sleep of its own will."""
        folder = Path(f"/proc/{pid}")
        threads = [_fields(thread / "status") for thread in (folder / "task").iterdir()]
        times = (folder / "stat").read_text().rpartition(")")[2].split()
        return cls(
            wake_ups=sum(int(thread["voluntary_ctxt_switches"]) for thread in threads),
            cpu=(int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
            rss=int(_fields(folder / "status")["VmRSS"].split()[0]) * 1024,
        )


def idle(seconds: int, transport: str, _seed: int) -> Iterator[Row]:
    """Start both, let them rest, and look for so many seconds what they do."""
    with bench(transport) as at:
        pids = {"hub": at.hub.process.pid, "worker": at.worker().process.pid}
        settle(REST)
        before = {name: Usage.of(pid) for name, pid in pids.items()}
        settle(seconds)
        for name, pid in pids.items():
            used = Usage.of(pid)
            memory, wake_ups = (HUB_GOAL, None) if name == "hub" else GOALS[transport]
            rate = (used.wake_ups - before[name].wake_ups) / seconds
            cpu = (used.cpu - before[name].cpu) / seconds * 100
            value = f"{used.rss / MIB:.1f} MiB, {rate:.1f} wake-ups/s, {cpu:.2f} % CPU"
            goal = f"≤ {memory} MiB, {'' if wake_ups is None else f'≤ {wake_ups:g} wake-ups/s, '}≤ {MOST_CPU} % CPU"
            is_kept = used.rss <= memory * MIB and cpu <= MOST_CPU and (wake_ups is None or rate <= wake_ups)
            yield Row(f"idle {name}", goal, value, is_kept)


def _fields(file: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
