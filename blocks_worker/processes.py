"""Which process is which: a host, a pid and a start time name one life of one program.

A fork copies every descriptor, and a lock or a listening socket lives as long as any copy. What is to end with
this life of the program is named to `keep_from_children`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from blocks_worker.protocol.leases import Process

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
#: Where the start time stands in /proc/<pid>/stat, counted behind the program's name.
_STATE_FIELD, _START_FIELD = 0, 19
#: Bytes of that file, which comes by one reading.
_LONGEST = 4096


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
    try:
        started = _started(pid)
    except OSError:
        started = None
    return Process(host=this_host(), pid=pid, started=started or "")


def is_alive(process: Process) -> bool | None:
    """Tell whether the process still runs; None when it cannot be told from here."""
    if process.host != this_host() or not process.started:
        return None
    try:
        started = _started(process.pid)
    except OSError:
        # Out of descriptors, say: who cannot look does not know.
        return None
    if started is None and not (_PROC / "1").exists():
        return None  # processes of other users are hidden from us, dead or alive
    return started == process.started


def _started(pid: int) -> str | None:
    """Return the start time of a running process; None when there is none (a zombie does not run).

    Raises:
        OSError: it could not be looked up.
    """
    try:
        # Asked of each worker twice a second: `open` would do eight calls of the system where three are enough.
        descriptor = os.open(f"{_PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _LONGEST).decode("utf-8", errors="replace")
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_FIELD] in {"Z", "X"}:
        return None
    return fields[_START_FIELD]


class Keeper(Protocol):
    """Hold descriptors that are this process's alone."""

    def leave_to_parent(self) -> Iterable[int]:
        """Forget, as a child that was just forked, that they are ours, and return them."""


_keepers: WeakSet[Keeper] = WeakSet()


def keep_from_children(keeper: Keeper) -> None:
    """Have each child that is forked from now on give up what the keeper holds then; it is remembered weakly."""
    _keepers.add(keeper)


def end_if_forked(owner: int) -> None:
    """End this process at once unless it is the owner, whose work it was forked from and must not carry on.

    Nothing is flushed and nobody is told, for all of that is the owner's. The code is that of `sys.exit`, 1 after
    another exception, else 0.
    """
    if os.getpid() != owner:
        error = sys.exc_info()[1]
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        os._exit(code if isinstance(code, int) else int(code is not None))


def _let_go() -> None:
    """Give up, as a child that was just forked, what is the parent's.

    The numbers stay taken, by nothing: objects copied from the parent still name them, and what one of these
    closes later must not be a file that the child opened meanwhile. Nothing is unlocked or unregistered, as
    that would reach the parent's side too.
    """
    for keeper in list(_keepers):
        # One that fails leaves a copy open; the others are given up all the same.
        with contextlib.suppress(Exception):
            for descriptor in keeper.leave_to_parent():
                _empty(descriptor)


def _empty(descriptor: int) -> None:
    os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if nothing != descriptor:
        os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)


os.register_at_fork(after_in_child=_let_go)
