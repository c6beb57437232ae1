"""The durable steps of one run: what is stored, and what the hub has not yet answered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.errors import StepError, TaskCancelledError, TaskFinishedError
from blocks_worker.protocol.steps import REPORT_STEPS, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.worker.run import Run


class StepBox:
    """Keep each value until the hub has said what is stored under its name, and that from then on.

    It has a lock of its own, which is taken last: whoever did a step waits here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Made by the first who waits: most runs have no steps.
        self._changed: threading.Condition | None = None
        self._stored: dict[str, bytes] = {}
        self._waiting: dict[str, bytes] = {}
        self._refused: set[str] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many there are, stored or not."""
        with self._lock:
            return len(self._stored) + len(self._waiting)

    @property
    def are_waiting(self) -> bool:
        """Tell whether some are not answered."""
        return bool(self._waiting)

    def know(self, steps: Sequence[Step]) -> None:
        """Take over what runs before stored."""
        with self._lock:
            self._know(steps)

    def add(self, name: str, value: bytes) -> None:
        """Take a value to be stored; of two under one name the first goes."""
        with self._lock:
            if name not in self._stored:
                self._waiting.setdefault(name, value)

    def stored(self, name: str) -> bytes | None:
        """Return what is stored under the name, as far as it is known."""
        with self._lock:
            return self._stored.get(name)

    def wait(self, run: Run, name: str) -> bytes:
        """Return what is stored under a name that was added, once that is durable.

        Raises:
            TaskFinishedError: the run has ended.
            TaskCancelledError: the task is to stop; the step is sent all the same, as long as the run may speak.
            StepError: the hub keeps no steps.
        """
        run.on_cancel(self._wake)
        with self._lock:
            changed = self._changed = self._changed or threading.Condition(self._lock)
            while (stored := self._stored.get(name)) is None:
                if name in self._refused:
                    raise StepError(name, "was not stored: the hub is older than this worker and has to be updated")
                if self._is_closed:
                    raise TaskFinishedError(run.task_id)
                if run.cancel_event.is_set():
                    raise TaskCancelledError(run.task_id)
                changed.wait()
            return stored

    def take(self, start: int, room: int) -> tuple[list[Step], int]:
        """Return what waits from that place on, at most `room` bytes or one, and its bytes."""
        taken: list[Step] = []
        size = 0
        if not self._waiting:
            return taken, size
        with self._lock:
            waiting = list(self._waiting.items())[start : start + REPORT_STEPS]
        for name, value in waiting:
            if taken and size + len(value) > room:
                break
            size += len(value)
            taken.append(Step(name=name, value=msgspec.Raw(value)))
        return taken, size

    def remain(self, taken: int) -> bool:
        """Tell whether more wait than so many."""
        return len(self._waiting) > taken

    def answered(self, sent: Sequence[Step], stored: Sequence[Step]) -> None:
        """Take note of what the hub has under the names that were sent."""
        with self._lock:
            self._know(stored)
            for step in sent:
                self._waiting.pop(step.name, None)
                if step.name not in self._stored:
                    self._refused.add(step.name)
            self._notify()

    def close(self) -> None:
        """Let nobody wait any more: the run has ended."""
        with self._lock:
            self._is_closed = True
            self._notify()

    def drop(self) -> None:
        """Let go of what waits: nobody will send it any more."""
        with self._lock:
            self._waiting.clear()

    def _know(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._stored[step.name] = bytes(step.value)

    def _wake(self) -> None:
        with self._lock:
            self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()
