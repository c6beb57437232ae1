"""The table of what this instance holds: slots that are taken, and tasks of which the hub has not heard the end.

The two are apart: a task leaves the held list only when the hub answered its ending, a slot comes back
when its thread does. A run that waits for its resume, or a pipe whose handler has returned, is held and parked:
it takes no slot, up to a number of each; beyond it counts as if it took one.
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

from blocks_worker.protocol.leases import HeldTask
from blocks_worker.worker.waiters import Waiters

if TYPE_CHECKING:
    from blocks_worker.concurrency import Deadline
    from blocks_worker.worker.run import Run, RunKey


#: Seconds after which who waits for a slot looks again whether it is to stop.
_LOOK = 1.0
#: Threads that wait without a slot, those of them that wait for an answer, and pipes whose handlers have returned,
#: before they count as slots.
MAX_WAITING = 256
MAX_ASKING = 100
MAX_OPEN_PIPES = 100


class Running:
    """Keep every run from its offer to the hub's answer, under one lock."""

    def __init__(
        self,
        slots: int,
        *,
        max_waiting: int = MAX_WAITING,
        max_asking: int = MAX_ASKING,
        max_open_pipes: int = MAX_OPEN_PIPES,
    ) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._max_asking = max_asking
        self._max_open_pipes = max_open_pipes
        self._lock = threading.Lock()
        self._slot_came_back = Waiters(self._lock)
        self._held: dict[RunKey, Run] = {}
        self._busy: dict[RunKey, Run] = {}
        self._waiting: dict[RunKey, Run] = {}
        #: Those of them that wait for an answer.
        self._asking: set[RunKey] = set()
        self._pipes: dict[RunKey, Run] = {}
        #: Who may go on and waits for a slot, the first first: offers come after them.
        self._returning: dict[RunKey, Run] = {}
        self._over = False

    def reserve(self, run: Run) -> bool:
        """Take a slot for a run that is about to be claimed; tell whether there was one."""
        with self._lock:
            if self._free() <= 0 or run.key in self._held or run.key in self._busy:
                return False
            self._held[run.key] = run
            self._busy[run.key] = run
            return True

    def slot_back(self, run: Run) -> None:
        """Take note that the run needs no thread any more; saying it twice changes nothing."""
        with self._lock:
            if self._busy.get(run.key) is run:
                del self._busy[run.key]
                self._slot_came_back.wake()

    def answered(self, key: RunKey) -> Run | None:
        """Hold this task no more: the hub has heard its end, or it was never ours."""
        with self._lock:
            self._pipes.pop(key, None)
            self._slot_came_back.wake()
            return self._held.pop(key, None)

    def wait_answered(self, key: RunKey, deadline: Deadline) -> bool:
        """Wait until the hub has heard the end of this task, or this instance has ended; tell whether it has heard."""
        with self._lock:
            while key in self._held and not deadline.expired() and not self._over:
                self._slot_came_back.wait(deadline.remaining())
            return key not in self._held

    def close(self) -> None:
        """Let nobody wait any more: this instance has ended."""
        with self._lock:
            self._over = True
            self._slot_came_back.wake()

    # ------------------------------------------------------------ without a slot

    def park(self, run: Run, *, asks: bool = False) -> None:
        """Take note that the thread of a run waits: for its resume, or, if it asks, for an answer."""
        with self._lock:
            if self._busy.get(run.key) is run:
                del self._busy[run.key]
                self._waiting[run.key] = run
                if asks:
                    self._asking.add(run.key)
                self._slot_came_back.wake()

    def may_go_on(self, run: Run, *, at_once: bool = False) -> bool:
        """Give a slot to a run that waited, if one is free and nobody was before it; tell whether it has one.

        `at_once`: it is to stop, and what it has left to do is short: it goes on whether there is one or not.
        """
        with self._lock:
            return self._go_on(run, at_once=at_once)

    def wait_for_slot(self, run: Run) -> None:
        """Wait until a run that waited has a slot again, or is to stop."""
        with self._lock:
            while not self._go_on(run, at_once=run.cancel_event.is_set()):
                self._slot_came_back.wait(_LOOK)

    def _go_on(self, run: Run, *, at_once: bool) -> bool:
        if run.key not in self._waiting:
            return True
        self._returning.setdefault(run.key, run)
        is_first = next(iter(self._returning)) == run.key
        if not at_once and not (is_first and self._slots > len(self._busy)):
            return False
        del self._returning[run.key], self._waiting[run.key]
        self._asking.discard(run.key)
        self._busy[run.key] = run
        self._slot_came_back.wake()
        return True

    def open_pipe(self, run: Run) -> None:
        """Take note that the handler of a pipe has returned, and the task goes on."""
        with self._lock:
            if run.key in self._held:
                self._pipes[run.key] = run

    def open_pipes(self) -> list[Run]:
        """Return the pipes whose handlers have returned."""
        with self._lock:
            return list(self._pipes.values())

    def find(self, key: RunKey) -> Run | None:
        """Return the run that is held under this key."""
        with self._lock:
            return self._held.get(key)

    def held_list(self) -> list[HeldTask]:
        """Return all that the hub must know we hold: claims in flight, runs, and endings not yet answered."""
        with self._lock:
            parked = {*self._parked(), *islice(self._pipes, self._max_open_pipes)}
            return [
                HeldTask(task_id=key[0], epoch=key[1], parked=key in parked, asks=run.answers.awaited)
                for key, run in self._held.items()
            ]

    def held(self) -> list[Run]:
        """Return the runs that are held."""
        with self._lock:
            return list(self._held.values())

    def busy(self) -> list[Run]:
        """Return the runs that have a slot."""
        with self._lock:
            return list(self._busy.values())

    def is_empty(self) -> bool:
        """Tell whether nothing is held, and no thread is at work."""
        with self._lock:
            return not self._held and not self._busy

    def free(self) -> int:
        """Return how many slots are free."""
        with self._lock:
            return max(0, self._free())

    def active_tasks(self) -> list[str]:
        """Return the ids of the tasks that are held and at work, or parked."""
        with self._lock:
            return [key[0] for key in (*self._busy, *self._waiting, *self._pipes) if key in self._held]

    def wait_idle(self, deadline: Deadline, hurry: threading.Event | None = None) -> bool:
        """Wait until no handler is at work, the deadline is over or `hurry` is set; tell whether none is."""
        with self._lock:
            while (
                (self._busy or self._waiting) and not deadline.expired() and not (hurry is not None and hurry.is_set())
            ):
                self._slot_came_back.wait(deadline.remaining())
            return not self._busy and not self._waiting

    def waiting(self) -> list[Run]:
        """Return the runs whose threads wait for their resume."""
        with self._lock:
            return list(self._waiting.values())

    def _free(self) -> int:
        """Return the slots that an offer may have: who waits for one comes first."""
        beyond = max(0, len(self._pipes) - self._max_open_pipes)
        if len(self._waiting) > self._max_waiting or len(self._asking) > self._max_asking:
            beyond += len(self._waiting) - len(self._parked())
        return self._slots - len(self._busy) - len(self._returning) - beyond

    def _parked(self) -> list[RunKey]:
        """Return the runs that wait without a slot: the first of them, and of those that ask the first."""
        asks = islice((key for key in self._waiting if key in self._asking), self._max_asking)
        may = {*asks, *(self._waiting.keys() - self._asking)}
        return list(islice((key for key in self._waiting if key in may), self._max_waiting))

    def wake_waiters(self) -> None:
        """Let `wait_idle` look again."""
        with self._lock:
            self._slot_came_back.wake()
