"""What this process uses of its machine: descriptors, memory, processor; None where that cannot be told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")
#: Which number of that file are the pages in RAM.
_RESIDENT = 1
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE})


def open_descriptors() -> int | None:
    """Return how many descriptors are open."""
    try:
        return len(os.listdir(_DESCRIPTORS)) - 1  # less the one that looks  # noqa: PTH208 - names alone, no paths
    except OSError as error:
        # Not one is left with which to look.
        return descriptor_limit() if error.errno in _USED_UP else None


def descriptor_limit() -> int | None:
    """Return how many may be."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def resident_bytes() -> int | None:
    """Return how much memory is in RAM."""
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[_RESIDENT]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError):
        return None


def cpu_seconds() -> float:
    """Return how long processors were at work for it."""
    spent = os.times()
    return spent.user + spent.system
