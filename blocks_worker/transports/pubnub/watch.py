"""Looking after a reader that waits in foreign code: ring it awake for a reason, and replace it when it is deaf."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from blocks_worker.concurrency import ServiceThread
from blocks_worker.transports.pubnub.outcomes import CallFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock

_logger = logging.getLogger(__name__)

#: Seconds between two looks when nothing is due.
LOOK = 5.0
#: Seconds in which a poll must have returned after it was rung awake.
ANSWER = 5.0
#: Seconds before a ring that could not be published is tried again.
AGAIN = 1.0
#: Seconds that a poll may take beyond the time the network holds it.
DEAF = 30.0


class Watched(Protocol):
    """What the watch asks and tells."""

    def polling_since(self) -> float | None:
        """Return since when (monotonic) a poll is under way, None when none is."""

    def next_look(self) -> float | None:
        """Return the monotonic time at which the reader has something to do besides polling."""

    def slept(self) -> bool:
        """Tell whether the machine slept since the last time."""

    def rebuild(self, reason: str) -> None:
        """Replace the reader and its connections."""


class Watch:
    """Ring the reader, at most one ring at a time, and look after it now and then."""

    def __init__(self, watched: Watched, publish: Callable[[], None], *, hold: float, clock: Clock) -> None:
        self._watched = watched
        self._publish = publish
        self._hold = hold
        self._clock = clock
        self._event = threading.Event()
        self._rung: float | None = None
        self._sent = False
        self._stopping = False
        self._farewell = False
        # A daemon: publishing a ring may be blocked in foreign code.
        self._thread = ServiceThread("pubnub-watch", self._run, daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def ring(self) -> None:
        """Have a poll that is held return soon; rings that come meanwhile are one."""
        if self._rung is None:
            self._sent = False
            self._rung = self._clock.monotonic()
        self._event.set()

    def heard(self) -> None:
        """Say that the reader is about to make a new poll: whatever it was rung for, it knows now."""
        self._rung = None

    def look(self) -> None:
        """Look now: something may be due earlier than before."""
        self._event.set()

    def stop(self, *, farewell: bool) -> None:
        """End; with `farewell` the reader is rung once more, to end too."""
        self._farewell = farewell
        self._stopping = True
        self._event.set()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it came."""
        return self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            self._clock.wait(self._event, self._pause())
            self._event.clear()
            if not self._stopping:
                self._guarded(self._look_after)
        if self._farewell:
            self._guarded(self._send)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # the top of a thread: report and go on
            _logger.exception("transport_watch_failed")

    def _pause(self) -> float:
        """Return the seconds to the next look."""
        now = self._clock.monotonic()
        due = self._watched.next_look()
        waits = [LOOK, AGAIN if self._rung is not None else LOOK]
        if due is not None and self._rung is None:
            waits.append(max(0.0, due - now))
        return min(waits)

    def _look_after(self) -> None:
        now = self._clock.monotonic()
        polling = self._watched.polling_since()
        due = self._watched.next_look()
        if self._watched.slept():
            self._watched.rebuild("the machine slept")
        elif polling is not None and now - polling > self._hold + DEAF:
            self._watched.rebuild("a poll does not end")
        elif self._rung is None and polling is not None and due is not None and due <= now:
            self.ring()
            self._send()
        else:
            self._answer_ring(polling, now)

    def _answer_ring(self, polling: float | None, now: float) -> None:
        """Publish a ring that is wanted; a poll that was under way and does not hear it is deaf."""
        rung = self._rung
        if rung is None or polling is None or polling > rung:
            return
        if now - rung >= ANSWER:
            self._rung = None
            self._watched.rebuild("a poll was not woken")
        elif not self._sent:
            self._send()

    def _send(self) -> None:
        self._sent = True
        try:
            self._publish()
        except CallFailedError as error:
            self._sent = False
            _logger.debug("transport_ring_failed", extra={"why": str(error)})
