"""Which tasks of an owner a list is to show, as conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.store.schema import task
from blocks_worker.hub.store.shown import is_shown_as

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

#: In place of one reason: every dead letter.
ANY = "any"


@dataclass(frozen=True)
class TaskFilter:
    """What is asked for; None asks for all.

    Attributes:
        state: as consumers see it.
        dead: why the hub gave it up; `ANY` for whatever reason.
        since, until: when it ended, in unix milliseconds; the second is not included.
    """

    state: str | None = None
    agent: str | None = None
    dead: str | None = None
    since: int | None = None
    until: int | None = None

    def conditions(self, owner: str) -> list[ColumnElement[bool]]:
        """Return what a task of the owner has to fulfil."""
        wanted = [task.c.owner == owner]
        if self.state is not None:
            wanted.append(is_shown_as(self.state))
        if self.agent is not None:
            wanted.append(task.c.agent == self.agent)
        if self.dead is not None:
            wanted.append(task.c.dead_reason.is_not(None) if self.dead == ANY else task.c.dead_reason == self.dead)
        if self.since is not None:
            wanted.append(task.c.ended >= self.since)
        if self.until is not None:
            wanted.append(task.c.ended < self.until)
        return wanted
