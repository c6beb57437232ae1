"""One pass over what time alone decides: silent instances, limits, offers nobody took, what waits, what is old.

Each row is dealt with in a savepoint of its own: one that can not be dealt with is logged, counted and put off,
and stops nobody else.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.hub.due import RETENTION_MS, due_again, expired_by
from blocks_worker.hub.purges import STUB_LIFE_MS
from blocks_worker.protocol.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import InstanceRecord, TaskRecord
    from blocks_worker.hub.task_service import TaskService

#: Rows of one kind in one pass.
MOST_ROWS = 500
#: A row that failed is looked at again after so long.
PUT_OFF_MS = 60_000
#: How far a pass looks ahead: further than to the next one that is made in any case.
AHEAD_MS = 5_000
#: Ended instances are few: they are looked for so often.
INSTANCE_PURGE_MS = 60_000

_logger = logging.getLogger(__name__)


class Sweeper:
    """Sweep the ledger; every pass is one set of writes of the store."""

    def __init__(self, *, tasks: TaskService, instances: InstanceService) -> None:
        self._tasks = tasks
        self._instances = instances
        self._next_instance_purge = 0
        #: Since when the hub hears what runs say.
        self._awake_since: int | None = None
        #: The instances of the last pass, and whether it found nothing to do, then and soon.
        self._there: list[InstanceRecord] = []
        self._rests = False
        #: Rows that could not be dealt with, since the start.
        self.failures = 0

    def sweep(self, ledger: Ledger, *, may_rest: bool = False) -> None:
        """Make one pass; where it `may_rest`, look too whether the next ones would find anything."""
        now = self._tasks.turns.now_ms()
        if self._awake_since is None:
            self._awake_since = now
        agents = self._sweep_instances(ledger)
        for row in ledger.due(now, MOST_ROWS):
            self._guarded(ledger, row.id, partial(self._end_time, ledger, row, now))
        for task_id, epoch in self._tasks.granted.lost():
            self._guarded(ledger, task_id, partial(self._take_back, ledger, task_id, epoch))
        for agent in sorted(agents):
            self._tasks.dispatch.route(ledger, agent)
        ledger.purge_tasks(now, MOST_ROWS, "retention")
        self._purge_instances(ledger, now)
        self._rests = may_rest and self._is_nothing_ahead(ledger, now)

    def rests(self) -> bool:
        """Tell, on the hub's loop, whether there is nothing ahead and everybody is well who was there."""
        return self._rests and all(self._is_well(row) for row in self._there)

    def _is_nothing_ahead(self, ledger: Ledger, now: int) -> bool:
        """Tell whether no time limit comes soon and nobody has, or was offered, a task."""
        return not ledger.due(now + AHEAD_MS, 1) and not any(ledger.tasks_of(row.incarnation) for row in self._there)

    def _sweep_instances(self, ledger: Ledger) -> set[str]:
        """Look at every live instance; return the agents they serve."""
        self._there = ledger.instances()
        for row in self._there:
            if self._is_well(row):
                self._instances.see(row)
            else:
                self._guarded(ledger, row.agent_id, partial(self._instances.check, ledger, row))
        return {row.agent for row in self._there}

    def _is_well(self, row: InstanceRecord) -> bool:
        """Tell whether there is nothing to do about an instance, as is usual: then it costs no statement."""
        try:
            return self._instances.is_well(row)
        except Exception:  # noqa: BLE001 - whoever deals with it meets the same, and reports it
            return False

    def _end_time(self, ledger: Ledger, row: TaskRecord, now: int) -> None:
        """Make the turn that a task's time calls for."""
        state = State(row.state)
        awake_since = now if self._awake_since is None else self._awake_since
        why, again = expired_by(row, now, awake_since), due_again(row, awake_since)
        if state in {State.CANCELLING, State.EXPIRING} and row.inc is not None:
            self._tasks.turns.force(ledger, row, row.inc)
        elif why is not None:
            self._tasks.turns.expire(ledger, row, why)
        elif row.ready_at is not None and row.ready_at <= now:
            self._tasks.turns.ready(ledger, row)
            self._tasks.dispatch.route(ledger, row.agent)
        elif state is State.INPUT_REQUIRED and row.inc is None and (row.ask_until or 0) <= now:
            self._tasks.questions.expire(ledger, row)
            self._tasks.dispatch.route(ledger, row.agent)
        elif state is State.OFFERED and row.inc is not None:
            for incarnation in ledger.offered_to(row):
                self._tasks.dispatch.refused(incarnation)
            self._tasks.turns.withdraw(ledger, row, row.inc)
        else:
            # A run that has spoken since is due later: its row is not written for that each time it speaks.
            ledger.look_later(row.id, now + PUT_OFF_MS if again is None else max(again, now + 1))

    def _take_back(self, ledger: Ledger, task_id: str, epoch: int) -> None:
        """Take back a task that was given with its offer, when nothing was heard of that."""
        row = ledger.task(task_id)
        if row is not None and row.epoch == epoch and row.is_held and row.inc is not None:
            self._tasks.turns.take_back(ledger, row, row.inc)
            self._tasks.dispatch.route(ledger, row.agent)

    def _guarded(self, ledger: Ledger, name: str, work: Callable[[], None]) -> None:
        try:
            with ledger.savepoint():
                work()
        except Exception:
            if not ledger.is_open():
                raise
            self.failures += 1
            _logger.exception("sweep_row_failed", extra={"row": name})
            ledger.look_later(name, self._tasks.turns.now_ms() + PUT_OFF_MS)

    def _purge_instances(self, ledger: Ledger, now: int) -> None:
        if now < self._next_instance_purge:
            return
        self._next_instance_purge = now + INSTANCE_PURGE_MS
        ledger.purge_instances(now - RETENTION_MS)
        ledger.drop_stubs(now - STUB_LIFE_MS)
