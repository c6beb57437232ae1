"""What runs do once and for all: steps are kept for the holder, and shown to every later run and to the owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError
from blocks_worker.hub.answers import Holder, Reply, no_such_task
from blocks_worker.hub.purges import missing
from blocks_worker.protocol.steps import INLINE_STEPS, MAX_STEP, MAX_STEPS, Step, StepsAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.answers import Consumer
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord

#: Bytes of one answer, unless a single step is more.
PAGE_BYTES = 512 * 1024
#: Steps that are read at once: some of them may not fit any more.
_READ = 16


def keep(ledger: Ledger, row: TaskRecord, by: str, steps: Sequence[Step]) -> list[Step]:
    """Store what the holder did, each unless there is one of its name; return what is stored under these names.

    Raises:
        InvalidMessageError: one is too large, or there are too many; none of them is stored.
    """
    if not steps:
        return []
    values = {step.name: bytes(step.value) for step in steps}
    _check(ledger, row, values)
    for name, value in values.items():
        ledger.keep_step(row, by, name, value)
    stored = {name: ledger.step(row.id, name) for name in values}
    return [Step(name=name, value=msgspec.Raw(value)) for name, value in stored.items() if value is not None]


def _check(ledger: Ledger, row: TaskRecord, values: dict[str, bytes]) -> None:
    for value in values.values():
        if len(value) > MAX_STEP:
            raise MessageTooLargeError(len(value), MAX_STEP)
    new = [name for name in values if ledger.step(row.id, name) is None]
    if new and ledger.count_steps(row.id) + len(new) > MAX_STEPS:
        raise InvalidMessageError("too_many", f"a task has at most {MAX_STEPS} steps")


def for_claim(ledger: Ledger, row: TaskRecord) -> list[Step] | None | msgspec.UnsetType:
    """Return what the answer to a claim says of steps: nothing where there are none, null where they are too much."""
    if not _may_have_any(row, 1):
        return msgspec.UNSET
    size = ledger.size_of_steps(row.id)
    if size > INLINE_STEPS:
        return None
    return _shown(ledger.steps(row.id, "", MAX_STEPS)) if size else msgspec.UNSET


def has_any(ledger: Ledger, row: TaskRecord) -> bool:
    """Tell whether something is stored of a task that waits to be offered: then its claim brings it."""
    return _may_have_any(row, 0) and ledger.count_steps(row.id) > 0


def _may_have_any(row: TaskRecord, first: int) -> bool:
    """Tell whether this is not the first run of a task: before it, nobody can have stored anything."""
    return row.epoch > first or row.retry_of is not None


def page(ledger: Ledger, who: Consumer | Holder, task_id: str, after: str) -> Reply:
    """Return the steps behind a name, to the task's owner and to the instance that holds it."""
    row = ledger.task(task_id)
    if isinstance(who, Holder):
        if row is None or not row.is_held or row.inc != who.incarnation:
            return no_such_task()
    elif row is None or row.owner != who.owner:
        return missing(ledger, who, task_id)
    found, more = _page(ledger, task_id, after)
    return Reply(200, StepsAnswer(steps=_shown(found), more=more))


def _page(ledger: Ledger, task_id: str, after: str) -> tuple[list[tuple[str, bytes]], bool]:
    """Return as many steps as fit, one at least, and whether there are more."""
    found: list[tuple[str, bytes]] = []
    room = PAGE_BYTES
    while read := ledger.steps(task_id, found[-1][0] if found else after, _READ):
        for name, value in read:
            room -= len(value)
            if found and room < 0:
                return found, True
            found.append((name, value))
    return found, False


def _shown(found: Sequence[tuple[str, bytes]]) -> list[Step]:
    return [Step(name=name, value=msgspec.Raw(value)) for name, value in found]
