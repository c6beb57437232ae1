"""What stands before the calls of one process to its hub, so that nobody storms a hub that cannot answer."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Deadline
from blocks_worker.controlplane.breaker import Breaker
from blocks_worker.controlplane.budget import Budget
from blocks_worker.errors import HubUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.concurrency import Clock, Entropy

_logger = logging.getLogger(__name__)

#: What is answered in place of a hub that is away, starts, or has too much to do.
_AWAY = frozenset({502, 503, 504})
#: What may be answered otherwise the next time, though the hub is there.
_NOT_NOW = frozenset({408, 429, 500, 507}) | _AWAY
#: Part of the time of a call that it waits here at most: the rest is for its answer.
_WAITS = 0.5


class Turn:
    """Be one call on its way; `timeout` is what is left of its time."""

    def __init__(self, place: str, timeout: float, *, is_probe: bool = False) -> None:
        self.place = place
        self.timeout = timeout
        self.is_probe = is_probe
        #: What came of it: a status, 0 where no answer came, None where that says nothing.
        self.status: int | None = None

    def answered(self, status: int) -> None:
        """Take note of the answer."""
        self.status = status


class Gate:
    """Let calls through, by budget and breaker, and learn from what comes of them.

    While the breaker is open a call waits here for the end of the probe, or until it is the next one; what would not
    have its turn in half of its time is told so at once. Vital calls keep leases alive: they go in any case, as
    rarely as who makes them repeats them.
    """

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        # One that its thread may take again: a client that is forgotten is closed wherever that is found.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._budget = Budget(clock)
        self._breaker = Breaker(clock, entropy)
        self._url = ""
        self._closed = False

    @contextmanager
    def turn(self, url: str, place: str, timeout: float, *, vital: bool = False) -> Iterator[Turn]:
        """Give a call its turn, to be made inside the block.

        Raises:
            HubUnavailableError: it is not to be made now; nothing was sent.
        """
        with self._lock:
            turn = self._begun(url, place, timeout, vital=vital)
        try:
            yield turn
        except HubUnavailableError:
            turn.status = 0
            raise
        finally:
            with self._lock:
                self._over(turn)

    def close(self) -> None:
        """Hold nobody back any more: who waits finds the connections closed."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _begun(self, url: str, place: str, timeout: float, *, vital: bool) -> Turn:
        if url != self._url:
            self._url, self._breaker = url, Breaker(self._clock, self._entropy)
            self._changed.notify_all()  # who waited for the old place may go to the new one
        left = timeout
        if not vital:
            if self._breaker.is_open:
                left -= self._await_turn(url, timeout * _WAITS)
            if not self._breaker.is_open:
                self._check_budget(url, place)
        return Turn(place, left, is_probe=self._breaker.enter())

    def _await_turn(self, url: str, most: float) -> float:
        """Wait until a call may go; return for how many seconds."""
        begun, deadline = self._clock.monotonic(), Deadline(most, self._clock)
        while not self._closed:
            pause = self._breaker.pause()
            if pause == 0:
                break
            left = deadline.within(most)
            if left <= 0 or (pause is not None and pause > left):
                why = f"the last {self._breaker.failures} calls failed, and it is left alone for some seconds"
                raise HubUnavailableError(url, why)
            self._changed.wait(left if pause is None else pause)
        return self._clock.monotonic() - begun

    def _check_budget(self, url: str, place: str) -> None:
        if not self._closed and not self._budget.allows(place):
            raise HubUnavailableError(url, "the same call failed a moment ago, and too many were repeated already")

    def _over(self, turn: Turn) -> None:
        was_open = self._breaker.is_open
        if turn.status is None:
            self._breaker.left(is_probe=turn.is_probe)
        elif turn.status == 0 or turn.status in _AWAY:
            self._breaker.failed(is_probe=turn.is_probe)
            if self._breaker.is_open and not was_open:
                _logger.debug("hub_left_alone", extra={"failures": self._breaker.failures})
        else:
            self._breaker.answered(is_probe=turn.is_probe)
        if turn.status == 0 or turn.status in _NOT_NOW:
            self._budget.failed(turn.place)
        elif turn.status is not None:
            self._budget.answered(turn.place)
        if was_open:  # else nobody waits
            self._changed.notify_all()
