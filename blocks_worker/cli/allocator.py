"""What a daemon asks of the C library's allocator: few pools, and to give back what is free in them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Pools of memory for all threads. glibc makes up to eight for each core, and each keeps what was freed in it: sixteen
#: slots whose handlers had a megabyte each kept 28 MiB for ever. Python's threads take turns, two never fight for one.
ARENAS = 2
#: The name of that number in malloc.h.
_M_ARENA_MAX = -8
#: What a user sets who knows better.
_OWN_WORD = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def few_arenas(environment: Mapping[str, str]) -> bool:
    """Have the threads of this process share few pools; tell whether the C library can, and nobody said otherwise."""
    if sys.platform != "linux" or any(name in environment for name in _OWN_WORD):
        return False
    return _ask("mallopt", _M_ARENA_MAX, ARENAS)


def give_back() -> bool:
    """Give the system the pages in which nothing is left; tell whether there were any.

    By itself the library gives back what is free at the end of a pool only, and something small lies there always.
    It takes milliseconds, so it is for the time when a flood is over.
    """
    return sys.platform == "linux" and _ask("malloc_trim", 0)


def _ask(name: str, *numbers: int) -> bool:
    import ctypes

    try:
        return bool(ctypes.CDLL(None)[name](*numbers))
    except (OSError, AttributeError):  # another C library, which has no such pools
        return False
