"""The table of what this instance holds: slots that are taken, and tasks of which the hub has not heard the end.

The two are apart: a task leaves the held list only when the hub answered its ending, a slot comes back
when its thread does.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blocks_worker.protocol.leases import HeldTask

if TYPE_CHECKING:
    from blocks_worker.concurrency import Deadline
    from blocks_worker.worker.run import Run, RunKey


class Running:
    """Keep every run from its offer to the hub's answer, under one lock."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._slot_came_back = threading.Condition(self._lock)
        self._held: dict[RunKey, Run] = {}
        self._busy: dict[RunKey, Run] = {}

    def reserve(self, run: Run) -> bool:
        """Take a slot for a run that is about to be claimed; tell whether there was one."""
        with self._lock:
            if len(self._busy) >= self._slots or run.key in self._held or run.key in self._busy:
                return False
            self._held[run.key] = run
            self._busy[run.key] = run
            return True

    def slot_back(self, run: Run) -> None:
        """Take note that the run needs no thread any more; saying it twice changes nothing."""
        with self._lock:
            if self._busy.get(run.key) is run:
                del self._busy[run.key]
                self._slot_came_back.notify_all()

    def answered(self, key: RunKey) -> Run | None:
        """Hold this task no more: the hub has heard its end, or it was never ours."""
        with self._lock:
            return self._held.pop(key, None)

    def find(self, key: RunKey) -> Run | None:
        """Return the run that is held under this key."""
        with self._lock:
            return self._held.get(key)

    def held_list(self) -> list[HeldTask]:
        """Return all that the hub must know we hold: claims in flight, runs, and endings not yet answered."""
        with self._lock:
            return [HeldTask(task_id=task_id, epoch=epoch) for task_id, epoch in self._held]

    def held(self) -> list[Run]:
        """Return the runs that are held."""
        with self._lock:
            return list(self._held.values())

    def busy(self) -> list[Run]:
        """Return the runs that have a slot."""
        with self._lock:
            return list(self._busy.values())

    def free(self) -> int:
        """Return how many slots are free."""
        with self._lock:
            return self._slots - len(self._busy)

    def active_tasks(self) -> list[str]:
        """Return the ids of the tasks that are held and have a slot."""
        with self._lock:
            return [task_id for task_id, epoch in self._busy if (task_id, epoch) in self._held]

    def wait_idle(self, deadline: Deadline, hurry: threading.Event | None = None) -> bool:
        """Wait until no slot is taken, the deadline is over or `hurry` is set; tell whether none is taken."""
        with self._lock:
            while self._busy and not deadline.expired() and not (hurry is not None and hurry.is_set()):
                self._slot_came_back.wait(deadline.remaining())
            return not self._busy

    def wake_waiters(self) -> None:
        """Let `wait_idle` look again."""
        with self._lock:
            self._slot_came_back.notify_all()
