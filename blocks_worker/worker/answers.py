"""What was answered to the questions of one task, as far as its run knows, and the one it waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Deadline
    from blocks_worker.protocol.leases import AnswerFlag


class Answers:
    """Keep the first answer to each question; a question that nobody answered in time has None."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, bytes | None] = {}
        self._calls = 0
        self._open: str | None = None
        #: Made by the first who waits: most runs ask nothing.
        self._changed: threading.Condition | None = None

    @property
    def awaited(self) -> str | None:
        """The question whose answer the run waits for."""
        return self._open

    def next_id(self) -> str:
        """Return the name of a question that was given none: the same in every run that asks in the same order."""
        with self._lock:
            self._calls += 1
            return f"ask-{self._calls}"

    def take(self, flag: AnswerFlag) -> None:
        """Take in what the hub says was answered."""
        value = None if flag.value is msgspec.UNSET else bytes(flag.value)
        with self._lock:
            self._known.setdefault(flag.ask_id, value)
            self._notify()

    def knows(self, ask: str) -> bool:
        """Tell whether the question is open no more."""
        with self._lock:
            return ask in self._known

    def to(self, ask: str) -> bytes | None:
        """Return what was answered to a question that is open no more, as JSON; None: nobody did in time."""
        with self._lock:
            return self._known[ask]

    def open(self, ask: str) -> str | None:
        """Begin to wait for an answer; return the question that is open already, if one is."""
        with self._lock:
            if self._open is not None:
                return self._open
            self._open = ask
            return None

    def close(self) -> None:
        """Wait no more."""
        with self._lock:
            self._open = None

    def wait(self, ask: str, deadline: Deadline, stops: Callable[[], bool]) -> bool:
        """Wait for the answer until the deadline, or until it stops; tell whether one of both has come."""
        with self._lock:
            if self._changed is None:
                self._changed = threading.Condition(self._lock)
            while ask not in self._known and not stops():
                if deadline.expired():
                    return False
                self._changed.wait(deadline.remaining())
            return True

    def wake(self) -> None:
        """Let who waits look whether it stops."""
        with self._lock:
            self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()
