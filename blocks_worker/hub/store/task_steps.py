"""The durable steps of tasks in the ledger: the first value under a name stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.store import statements as sql
from blocks_worker.hub.store.task_turns import TaskTurns

if TYPE_CHECKING:
    from blocks_worker.hub.store.records import TaskRecord


class TaskSteps(TaskTurns):
    """Be the part of the ledger that keeps steps."""

    def keep_step(self, row: TaskRecord, by: str, name: str, value: bytes) -> bool:
        """Store what the holder did under a name; tell whether it was the first there."""
        return self._turn(sql.STEP, row, by=by, name=name, value=value)

    def step(self, task_id: str, name: str) -> bytes | None:
        """Return what is stored under a name."""
        row = self._group.look(sql.STORED_STEP, {"key": task_id, "name": name}).fetchone()
        return None if row is None else bytes(row[0])

    def count_steps(self, task_id: str) -> int:
        """Count the stored steps of a task."""
        return int(self._group.look(sql.COUNT_STEPS, {"key": task_id}).fetchone()[0])

    def size_of_steps(self, task_id: str) -> int:
        """Return the bytes of all values together."""
        return int(self._group.look(sql.SIZE_OF_STEPS, {"key": task_id}).fetchone()[0])

    def steps(self, task_id: str, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return stored steps by their names, those behind a name; the empty one is before all."""
        found = self._group.look(sql.STEPS, {"key": task_id, "after": after, "most": most})
        return [(name, bytes(value)) for name, value in found.fetchall()]

    def copy_steps(self, task_id: str, new_id: str) -> None:
        """Give the task as which another one is sent again what that had done."""
        self._group.execute(sql.COPY_STEPS, {"key": task_id, "new": new_id})
