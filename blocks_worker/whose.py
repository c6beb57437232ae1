"""For which agent a thread works, where a process serves several: its log lines name it."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Names of agent and instance; threads have those of who made them.
_names: ContextVar[Mapping[str, str] | None] = ContextVar("blocks_worker_whose", default=None)


def names() -> Mapping[str, str]:
    """Return the names under which this thread or coroutine works: ``agent`` and ``instance``, or nothing."""
    return _names.get() or {}


@contextlib.contextmanager
def working_for(agent: Mapping[str, str]) -> Iterator[None]:
    """Work under these names inside the block, as do the threads that are made there; under none when it is empty."""
    token = _names.set(agent)
    try:
        yield
    finally:
        _names.reset(token)
