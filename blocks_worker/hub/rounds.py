"""Rounds of the hub's loop: what the ledger's writer hands over is done together, and what that says leaves together.

Without them each answer, each message and each frame would be a turn of the loop by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_logger = logging.getLogger(__name__)


class Rounds:
    """Take what is to be done on the loop now, and what is to be done when that is."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        #: What other threads have handed over, and whether the loop knows. To add to a deque, and to take from it, is
        #: one step each.
        self._handed: deque[Callable[[], object]] = deque()
        self._is_called = False
        #: Somebody hands over several things, and calls when he has.
        self._is_gathering = False
        #: What is to be done at the end, and whether the loop comes to it by itself.
        self._last: deque[Callable[[], object]] = deque()
        self._is_due = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do from now on what is handed over, on this loop."""
        self._loop = loop

    def hand(self, act: Callable[..., object], *args: Any) -> None:
        """Have something done on the loop, in order; any thread may ask. A loop that is over does nothing."""
        if self._loop is None:
            return
        self._handed.append(partial(act, *args))
        if not self._is_gathering:
            self._call()

    def __enter__(self) -> Self:
        """Hand over several things, for which the loop is called once: it would wake only to wait for who goes on."""
        self._is_gathering = True
        return self

    def __exit__(self, *_error: object) -> None:
        """Call the loop for all that was handed over, by whomever."""
        self._is_gathering = False
        if self._handed:
            self._call()

    def _call(self) -> None:
        if self._is_called or self._loop is None:
            return
        self._is_called = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take)

    def at_end(self, act: Callable[[], object]) -> None:
        """Have something done once all is that is done now; on the loop only."""
        self._last.append(act)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._end)

    def _take(self) -> None:
        # Before it is looked what is there: what comes from now on is either seen, or calls anew.
        self._is_called = False
        self._is_due = True
        _all(self._handed)
        self._end()

    def _end(self) -> None:
        _all(self._last)
        self._is_due = False


def _all(acts: deque[Callable[[], object]]) -> None:
    """Do each, until none is left."""
    while acts:
        try:
            acts.popleft()()
        except Exception:  # the top of one act: reported, the others are done
            _logger.exception("round_failed")
