"""What to do with an offer: take it, leave it, or send it back. No threads, no network; now is passed in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.worker.outbox import Outbox
from blocks_worker.worker.run import Run, RunKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.protocol.control import StartTask
    from blocks_worker.worker.running import Running

#: Seconds and number of what is remembered of offers that were dealt with.
SEEN_SECONDS = 600.0
SEEN_MAX = 10_000


@dataclass(frozen=True)
class Accept:
    """Claim it: a slot is reserved."""

    run: Run


@dataclass(frozen=True)
class Ignore:
    """Do nothing."""

    reason: str


@dataclass(frozen=True)
class Nack:
    """Tell the hub to offer it elsewhere."""

    reason: str


class Dispatcher:
    """Remember which offers were dealt with, finished ones too, and which tasks were cancelled before they came."""

    def __init__(self, running: Running, is_strained: Callable[[], bool] = lambda: False) -> None:
        self._running = running
        self._is_strained = is_strained
        self._lock = threading.Lock()
        self._seen: OrderedDict[RunKey, float] = OrderedDict()
        self._tombstones: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing new is taken."""
        return self._closed

    def close(self) -> None:
        """Take nothing new from now on."""
        with self._lock:
            self._closed = True

    def offer(self, offer: StartTask, now: float) -> Accept | Ignore | Nack:
        """Decide about an offer; an accepted one has its slot."""
        key = (offer.task_id, offer.epoch)
        strained = self._is_strained()
        with self._lock:
            self._forget(now)
            if key in self._seen:
                return Ignore("duplicate")
            if self._tombstones.get(offer.task_id, (0, 0.0))[0] >= offer.epoch:
                if offer.granted is None:
                    return Ignore("cancelled")
                # It is held here already: its claim tells of the cancel, which is then obeyed.
                offer = msgspec.structs.replace(offer, granted=None)
            if self._closed:
                return Nack("draining")
            if strained:
                return Nack("degraded")
            run = Run(offer, Outbox(key), now)
            if not self._running.reserve(run):
                return Nack("agent_at_capacity")
            self._seen[key] = now + SEEN_SECONDS
            return Accept(run)

    def cancelled(self, key: RunKey, now: float) -> None:
        """Take note of a cancel for a task that is not here: its offer may still be on the way."""
        task_id, epoch = key
        with self._lock:
            self._forget(now)
            known = self._tombstones.pop(task_id, (0, 0.0))[0]
            self._tombstones[task_id] = (max(epoch, known), now + SEEN_SECONDS)

    def _forget(self, now: float) -> None:
        while self._seen and (len(self._seen) >= SEEN_MAX or next(iter(self._seen.values())) <= now):
            self._seen.popitem(last=False)
        while self._tombstones and (
            len(self._tombstones) >= SEEN_MAX or next(iter(self._tombstones.values()))[1] <= now
        ):
            self._tombstones.popitem(last=False)
