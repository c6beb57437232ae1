"""What the service manager is told of a program: ready, how it stands, that it gets on, that it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.observability.notify import Notifier

if TYPE_CHECKING:
    from blocks_worker.config import WorkerConfig

#: Seconds between two looks at how the program stands, where no watchdog wants them more often.
LOOK = 5.0
#: Pings in the time after which the manager takes the program for hung.
_PINGS = 3
#: Seconds that one turn of a heartbeat or a sweep may take: longer than any limit of time on its way.
STUCK = 60.0


class Reporter:
    """Tell the manager, on the main thread and only there: a ping proves that this thread comes round.

    `tell` is called at least each `interval` seconds, and says there whether the threads behind get on too.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._notifier = Notifier(config.notify_socket)
        self._watchdog = config.watchdog
        self._is_heard = config.notify_socket is not None
        self._status = ""

    @property
    def interval(self) -> float | None:
        """Seconds between two reports; None when nobody listens."""
        if not self._is_heard:
            return None
        return LOOK if self._watchdog is None else min(LOOK, self._watchdog / _PINGS)

    def ready(self, status: str) -> None:
        """Say that the start is over."""
        self._send("READY=1", status)

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", status)

    def tell(self, status: str, *, behind: float = 0.0) -> None:
        """Say how the program stands, if that is new, and that it lives, unless something is `behind` for too long."""
        states = [f"STATUS={status}"] if status != self._status else []
        if self._watchdog is not None and behind < STUCK:
            states.append("WATCHDOG=1")
        if self._is_heard and states:
            self._notifier.send(*states)
        self._status = status

    def _send(self, state: str, status: str) -> None:
        self._status = status
        self._notifier.send(state, f"STATUS={status}")
