"""One task in one epoch on this worker: what is known of it, whether it is to stop, how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from blocks_worker.worker.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.protocol.control import StartTask
    from blocks_worker.protocol.leases import ClaimAnswer
    from blocks_worker.worker.outbox import Outbox
    from blocks_worker.worker.voice import Voice

#: A task and its epoch: together they name a run.
RunKey = tuple[str, int]

#: The reason of a cancel that gives a handler the shorter grace.
TERMINATED = "terminated"

EndState = Literal["completed", "failed", "canceled", "expired", "released", "fenced"]


@dataclass(frozen=True)
class Ending:
    """How a run ended here; `expired` is a pipe whose time is over.

    `released` and `fenced` mean that the task goes on elsewhere, or is not this run's to end.
    """

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
        #: Seconds within which it has to say something each time, and when it did last, on the monotonic clock.
        self.progress_timeout: float | None = None
        self.spoke_at = received_at
        #: It has a duration, and goes on after its handler has returned.
        self.is_pipe = False
        self.answer: ClaimAnswer | None = None
        #: The start body that the lease is for; None when it is not here.
        self.content: bytes | None = None
        self.cancel_reason: str | None = None
        #: The consumer, or the hub for him, asked it to stop.
        self.is_cancelled = False
        #: When the handler is given up, on the monotonic clock; set with the cancel.
        self.grace_ends: float | None = None
        #: It is to be given back instead of reported, because the worker drains.
        self.gives_back = False
        self.is_expired = False
        #: The consumer wants it to wait, as far as the newest word of him goes.
        self.is_paused = False
        self.ending: Ending | None = None
        #: The hub took the task away, or had recorded another end.
        self.is_fenced = False
        #: By which whoever replaces the handler speaks.
        self.voice: Voice | None = None
        #: Ids of the outputs that the handler published while it ran.
        self.published: set[str] = set()
        #: To its questions.
        self.answers = Answers()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []
        self._pause_seq = 0
        #: Made by the first who waits for a resume: most runs are never paused.
        self._turned: threading.Condition | None = None

    @property
    def cancel_event(self) -> threading.Event:
        """Set when it is to stop; made by the first who looks at it, for most runs are over before anybody does."""
        events: dict[str, threading.Event] = vars(self)
        return events.get("_cancel_event") or events.setdefault("_cancel_event", threading.Event())

    def cancel(self, reason: str | None, *, wakes: bool = True) -> bool:
        """Ask the handler to stop; tell whether this was the first cancel, or the first terminate.

        `wakes`: its cancel event is set; else somebody else tells it.
        """
        with self._lock:
            hastened = reason == TERMINATED and self.cancel_reason != TERMINATED
            if self.gives_back or (self.is_cancelled and not hastened) or (self.is_pipe and self.is_expired):
                return False
            self.cancel_reason = reason
            self.is_cancelled = True
        if wakes:
            self.wake()
        return True

    def expire(self, limit: str) -> bool:
        """Note that its time is over, unless it is being cancelled; tell whether this is news."""
        with self._lock:
            if self.is_cancelled or self.is_expired:
                return False
            self.limit = limit
            self.is_expired = True
        return True

    @property
    def stopped_as(self) -> Ending | None:
        """How it ends because it was told to stop; None when it was not."""
        if self.is_cancelled:
            return Ending("canceled", reason=self.cancel_reason)
        if self.is_pipe and self.is_expired:
            return Ending("expired", reason=self.limit)
        return None

    def pause(self, seq: int, *, on: bool) -> None:
        """Take the consumer's word that it is to wait or go on; the highest number counts."""
        with self._lock:
            if seq <= self._pause_seq:
                return
            self._pause_seq, self.is_paused = seq, on
            if self._turned is not None:
                self._turned.notify_all()

    def wait_resumed(self) -> None:
        """Wait until it is to go on or to stop."""
        with self._lock:
            if self._turned is None:
                self._turned = threading.Condition(self._lock)
            while self.is_paused and not self.cancel_event.is_set():
                self._turned.wait()

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
            if self._turned is not None:
                self._turned.notify_all()
            wakers, self._wakers = self._wakers, []
        self.answers.wake()
        for waker in wakers:
            waker()

    def on_cancel(self, waker: Callable[[], object]) -> None:
        """Call this when the run is to stop; at once when it already is."""
        with self._lock:
            if not self.cancel_event.is_set():
                self._wakers.append(waker)
                return
        waker()
