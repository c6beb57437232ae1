"""What processes cost: CPU clocks and memory by process id, and what the rest of the machine did meanwhile."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: The kernel's number of the clock that counts what all threads of a process ran, dead ones too.
_PROCESS_CLOCK = 2


def descendants(root: int) -> list[int]:
    """Return a process and all below it that live."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process after its name; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def started(pid: int) -> str:
    """Return when a process started, in ticks: with its id its name for ever. Empty when it is gone."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def cpu_of(root: int) -> float:
    """Return the CPU seconds of a process: its threads, dead ones too, and its children, those that ended too."""
    total = 0.0
    for pid in descendants(root):
        fields = _stat(pid)
        if not fields:
            continue
        try:
            own = time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
        except OSError:
            own = (int(fields[11]) + int(fields[12])) / _TICK
        total += own + (int(fields[13]) + int(fields[14])) / _TICK
    return total


def memory_of(root: int) -> float:
    """Return the resident MiB of a process and those below it; what they share with each other counts once."""
    own, shared = 0, 0
    for pid in descendants(root):
        try:
            _size, resident, common = map(int, Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[:3])
        except OSError:
            continue
        own, shared = own + resident - common, max(shared, common)
    return (own + shared) * _PAGE / 2**20


def forget_peaks(pids: Mapping[str, int]) -> None:
    """Let the most memory that each process had be what it has now."""
    for root in pids.values():
        for pid in descendants(root):
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_of(root: int) -> float:
    """Return the most resident MiB that a process and those below it had, each at its own time."""
    total = 0
    for pid in descendants(root):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
            total += next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    return total / 1024


@dataclass(frozen=True)
class Moment:
    """What the clocks said at one moment."""

    wall: float
    #: CPU seconds by the role of a process.
    roles: Mapping[str, float]
    #: CPU seconds of the whole machine.
    machine: float
    own: float

    def until(self, later: Moment) -> Spent:
        """Return what was spent between two moments."""
        wall = later.wall - self.wall
        cores = os.cpu_count() or 1
        roles = {name: later.roles[name] - cpu for name, cpu in self.roles.items()}
        ours = sum(roles.values()) + later.own - self.own
        others = (later.machine - self.machine - ours) / (wall * cores) if wall else 0.0
        return Spent(wall, roles, max(0.0, others))


@dataclass(frozen=True)
class Spent:
    """What a stretch of time cost."""

    wall: float
    cpu: Mapping[str, float]
    #: The share of all cores that went to neither the measured processes nor the harness.
    others: float


def moment(pids: Mapping[str, int]) -> Moment:
    """Read all clocks."""
    roles = {name: cpu_of(pid) for name, pid in pids.items()}
    return Moment(time.perf_counter(), roles, machine_cpu(), time.process_time())


def machine_cpu() -> float:
    """Return the CPU seconds that the machine has worked since its start."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / _TICK


def others_for(seconds: float) -> float:
    """Return the share of all cores that others use during the next seconds."""
    before = moment({})
    time.sleep(seconds)
    return before.until(moment({})).others


def await_quiet(limit: float = 20, share: float = 0.12) -> float:
    """Wait until others use little of the machine, or the limit is over; return their share."""
    deadline = time.monotonic() + limit
    while True:
        others = others_for(0.5)
        if others < share or time.monotonic() > deadline:
            return others
