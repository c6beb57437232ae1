"""Which process is which: a host, a pid and a start time name one life of one program."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

from blocks_worker.protocol.leases import Process

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
#: Where the start time stands in /proc/<pid>/stat, counted behind the program's name.
_STATE_FIELD, _START_FIELD = 0, 19


@lru_cache(maxsize=1)
def this_host() -> str:
    """Return a name for this boot of this host and its pid namespace, or the host's name where there is no /proc."""
    try:
        namespace = (_PROC / "self/ns/pid").readlink()
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{namespace}"
    except OSError:
        return platform.node()


def this_process() -> Process:
    """Return the name of the calling process."""
    pid = os.getpid()
    return Process(host=this_host(), pid=pid, started=_started(pid) or "")


def is_alive(process: Process) -> bool | None:
    """Tell whether the process still runs; None when it cannot be told from here."""
    if process.host != this_host() or not process.started:
        return None
    return _started(process.pid) == process.started


def _started(pid: int) -> str | None:
    """Return the start time of a running process; None when there is none (a zombie does not run)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_FIELD] in {"Z", "X"}:
        return None
    return fields[_START_FIELD]
