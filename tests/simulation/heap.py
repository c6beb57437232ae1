"""Virtual time: one heap of events, and who is held or gone when his event comes up."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from support import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Owner:
    """Whose event it is: one that is gone does nothing any more, one that is held does it all when it goes on."""

    is_gone = False
    held_until = 0.0


class Heap:
    """Do what is due, in order; nothing here waits."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._events: list[tuple[float, int, Owner | None, Callable[[], object]]] = []
        self._order = count()

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.clock.monotonic()

    def after(self, delay: float, work: Callable[[], object], owner: Owner | None = None) -> None:
        """Do it later."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), owner, work))

    def step(self, until: float) -> bool:
        """Do what is next; tell whether there was something before `until`."""
        if not self._events or self._events[0][0] >= until:
            return False
        moment, _, owner, work = heapq.heappop(self._events)
        if moment > self.now:
            self.clock.advance(moment - self.now)
        if owner is None:
            work()
        elif owner.is_gone:
            return True
        elif owner.held_until > self.now:
            self.after(owner.held_until - self.now, work, owner)
        else:
            work()
        return True
