"""All tasks counted at one moment, from their rows and from what is kept of those that were purged."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import case, func, select

from blocks_worker.hub.store.records import StubRecord
from blocks_worker.hub.store.schema import event, purge, task
from blocks_worker.hub.store.shown import ended_as
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, HELD, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord

#: Key of what is kept of purged tasks: how many of each agent ended how, as JSON.
PURGED = "purged_tasks"

_HELD = frozenset(state.value for state in HELD)
_ENDED = frozenset(state.value for state in TERMINAL)


class Survey(NamedTuple):
    """What was counted.

    Attributes:
        accepted: tasks that were ever taken in.
        ended: by agent and state, as consumers see it; those that were purged since too.
        waiting, oldest, running: by agent; `oldest` is when the first of those that wait came.
        unpublished: events behind the last one that was published.
    """

    accepted: int
    ended: Counter[tuple[str, str]]
    waiting: Counter[str]
    oldest: dict[str, int]
    running: Counter[str]
    unpublished: int


def survey(ledger: Ledger, published: int) -> Survey:
    """Count everything; `published`: the place of the newest event that was, as far as the caller knows."""
    ended, waiting, running = purged(ledger.meta(PURGED)), Counter[str](), Counter[str]()
    oldest: dict[str, int] = {}
    rows = 0
    for agent, state, reason, count, first in ledger.connection.execute(_TASKS):
        rows += count
        if state in _ENDED:
            ended[agent, ended_as(state, reason)] += count
        elif state in _HELD:
            running[agent] += count
        else:
            waiting[agent] += count
            oldest[agent] = min(first, oldest.get(agent, first))
    gone = ledger.connection.execute(_PURGED).scalar_one()
    behind = max(published, ledger.published())
    unpublished = select(func.count()).select_from(event).where(event.c.seq > behind)
    return Survey(rows + gone, ended, waiting, oldest, running, ledger.connection.execute(unpublished).scalar_one())


def purged(text: str | None) -> Counter[tuple[str, str]]:
    """Return what is kept of purged tasks, by agent and state."""
    kept = json.loads(text) if text else {}
    return Counter({(agent, state): count for agent, states in kept.items() for state, count in states.items()})


def stub_of(row: TaskRecord, now: int, rule: str) -> StubRecord:
    """Return what stays of a task that is purged; `rule`: by which, or by whom."""
    state, ended = ended_as(row.state, row.reason), row.ended or now
    return StubRecord(row.id, row.owner, row.agent, row.idem, state, row.outcome_digest, ended, now, rule)


def with_purged(text: str | None, rows: Sequence[tuple[str, str, str | None]]) -> str:
    """Return what is kept, with more tasks that are to be purged: agent, state and reason of each."""
    kept = purged(text)
    kept.update((agent, ended_as(state, reason)) for agent, state, reason in rows)
    told: dict[str, dict[str, int]] = {}
    for (agent, state), count in kept.items():
        told.setdefault(agent, {})[state] = count
    return json.dumps(told)


#: Reasons are users' words, all but the one that counts.
_REASON = case((task.c.reason == DURATION_EXPIRED, DURATION_EXPIRED), else_=None).label("why")
_TASKS = select(task.c.agent, task.c.state, _REASON, func.count(), func.min(task.c.created)).group_by(
    task.c.agent, task.c.state, _REASON
)
_PURGED = select(func.coalesce(func.sum(purge.c.count), 0)).where(purge.c.what == "task")
