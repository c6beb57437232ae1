"""One task in one epoch on this worker: what is known of it, whether it is to stop, how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.protocol.control import StartTask
    from blocks_worker.protocol.leases import ClaimAnswer
    from blocks_worker.worker.outbox import Outbox

#: A task and its epoch: together they name a run.
RunKey = tuple[str, int]

#: The reason of a cancel that gives a handler the shorter grace.
TERMINATED = "terminated"

EndState = Literal["completed", "failed", "canceled", "released", "fenced"]


@dataclass(frozen=True)
class Ending:
    """How a run ended here; `released` and `fenced` mean that the task goes on elsewhere."""

    state: EndState
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None


class Run:
    """Hold what the parts of the worker know of one run.

    Its flags only ever go one way, so a reader needs no lock: the event is set after the reason is written.
    """

    def __init__(self, offer: StartTask, outbox: Outbox, received_at: float) -> None:
        self.task_id = offer.task_id
        self.epoch = offer.epoch
        self.key: RunKey = (offer.task_id, offer.epoch)
        self.offer = offer
        self.outbox = outbox
        self.received_at = received_at
        self.started_at = received_at
        #: When the whole is over at the latest, on the monotonic clock, and the limit's name.
        self.deadline: float | None = None
        self.limit = "max_runtime"
        self.answer: ClaimAnswer | None = None
        self.cancel_event = threading.Event()
        self.cancel_reason: str | None = None
        #: The consumer, or the hub for him, asked it to stop.
        self.is_cancelled = False
        #: When the handler is given up, on the monotonic clock; set with the cancel.
        self.grace_ends: float | None = None
        #: It is to be given back instead of reported, because the worker drains.
        self.gives_back = False
        self.is_expired = False
        self.ending: Ending | None = None
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    def cancel(self, reason: str | None) -> bool:
        """Ask the handler to stop; tell whether this was the first cancel, or the first terminate."""
        with self._lock:
            hastened = reason == TERMINATED and self.cancel_reason != TERMINATED
            if self.gives_back or (self.is_cancelled and not hastened):
                return False
            self.cancel_reason = reason
            self.is_cancelled = True
        self.wake()
        return True

    def give_back(self) -> bool:
        """Ask the handler to stop because the task goes elsewhere; a cancelled one stays cancelled."""
        with self._lock:
            if self.is_cancelled:
                return False
            self.gives_back = True
        self.wake()
        return True

    def wake(self) -> None:
        """Set the cancel event and wake what waits in another way."""
        with self._lock:
            self.cancel_event.set()
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    def on_cancel(self, waker: Callable[[], object]) -> None:
        """Call this when the run is to stop; at once when it already is."""
        with self._lock:
            if not self.cancel_event.is_set():
                self._wakers.append(waker)
                return
        waker()
