"""Statements about stored files: whose they are, whether all of each is there, which tasks use them.

A file waits as STAGED until its bytes are on the disk, is seen as COMMITTED, and PURGING is the step before both
row and bytes are gone. `purge_at` is empty while a task uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, delete, exists, func, insert, select, update

from blocks_worker.hub.store.schema import agent, file, file_use, purge, task
from blocks_worker.protocol.lifecycle import HELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

#: The role of a file that is part of an input.
INPUT = "consumer-input"
STAGED, COMMITTED, PURGING = "STAGED", "COMMITTED", "PURGING"


class FileRecord(NamedTuple):
    """One file; the fields are the columns of the table, in their order."""

    id: str
    owner: str
    role: str
    agent: str | None
    task: str | None
    name: str | None
    mime: str
    size: int
    sha256: str | None
    state: str
    upload: str | None
    upload_until: int | None
    created: int
    purge_at: int | None


def stage(connection: Connection, record: FileRecord) -> None:
    """Take in a file whose bytes are to come; an output belongs to its task from now on."""
    connection.execute(insert(file).values(**record._asdict()))
    if record.task is not None:
        connection.execute(insert(file_use).values(task=record.task, file=record.id))


def get(connection: Connection, file_id: str) -> FileRecord | None:
    """Return a file."""
    row = connection.execute(select(file).where(file.c.id == file_id)).first()
    return None if row is None else FileRecord._make(row)


def upload(connection: Connection, digest: str, now: int) -> FileRecord | None:
    """Return the file whose bytes may be sent by this right; None when there is no such right."""
    live = and_(file.c.upload == digest, file.c.state == STAGED, file.c.upload_until > now)
    row = connection.execute(select(file).where(live)).first()
    return None if row is None else FileRecord._make(row)


def prolong_upload(connection: Connection, file_id: str, until: int) -> None:
    """Have the right to send the bytes of a file end later, and never after the file."""
    values = {"upload_until": func.min(until, file.c.purge_at)}
    connection.execute(update(file).where(file.c.id == file_id, file.c.state == STAGED).values(**values))


def give_up_upload(connection: Connection, file_id: str) -> None:
    """End the right to send the bytes of a file that is not whole."""
    connection.execute(update(file).where(file.c.id == file_id, file.c.state == STAGED).values(upload=None))


def commit(connection: Connection, file_id: str, sha256: str) -> bool:
    """Make a file visible whose bytes are on the disk; an output now stays as long as its task."""
    staged = and_(file.c.id == file_id, file.c.state == STAGED)
    values = {"state": COMMITTED, "sha256": sha256, "upload": None, "upload_until": None}
    done = connection.execute(update(file).where(staged).values(**values)).rowcount == 1
    kept = and_(file.c.id == file_id, exists().where(file_use.c.file == file.c.id))
    connection.execute(update(file).where(kept).values(purge_at=None))
    return done


def use(connection: Connection, file_id: str, task_id: str) -> None:
    """Keep a file as long as a task."""
    connection.execute(update(file).where(file.c.id == file_id).values(purge_at=None))
    connection.execute(insert(file_use).prefix_with("OR IGNORE").values(task=task_id, file=file_id))


def is_held_by(connection: Connection, file_id: str, incarnation: str) -> bool:
    """Tell whether an incarnation holds a task that uses the file."""
    held = select(task.c.id).join(file_use, file_use.c.task == task.c.id)
    held = held.where(file_use.c.file == file_id, task.c.inc == incarnation)
    held = held.where(task.c.state.in_([state.value for state in HELD]))
    return connection.execute(held.limit(1)).first() is not None


def is_sent_to(connection: Connection, file_id: str, owner: str) -> bool:
    """Tell whether a task that uses the file was sent to, or done by, an agent of this owner."""
    sent = select(task.c.id).join(file_use, file_use.c.task == task.c.id).join(agent, agent.c.name == task.c.agent)
    sent = sent.where(file_use.c.file == file_id, agent.c.owner == owner)
    return connection.execute(sent.limit(1)).first() is not None


def release(connection: Connection, tasks: Sequence[str], now: int) -> None:
    """Let go of the files of tasks that are purged: what no other task uses goes too."""
    mine = select(file_use.c.file).where(file_use.c.task.in_(tasks))
    others = exists().where(file_use.c.file == file.c.id, file_use.c.task.not_in(tasks))
    connection.execute(update(file).where(file.c.id.in_(mine), ~others).values(purge_at=now))
    connection.execute(delete(file_use).where(file_use.c.task.in_(tasks)))


def begin_purge(connection: Connection, now: int, most: int) -> list[str]:
    """Hide files whose time is over, and return them and those of a purge that was cut off."""
    due = select(file.c.id).where(file.c.purge_at <= now).order_by(file.c.purge_at).limit(most)
    found = list(connection.execute(due).scalars())
    if found:
        connection.execute(update(file).where(file.c.id.in_(found)).values(state=PURGING, upload=None))
    return found


def inputs_of(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """Return how many bytes of these files are inputs, by owner."""
    query = select(file.c.owner, func.sum(file.c.size)).where(file.c.id.in_(keys), file.c.role == INPUT)
    return {owner: int(size) for owner, size in connection.execute(query.group_by(file.c.owner))}


def end_purge(connection: Connection, files: Sequence[str], *, now: int, rule: str) -> None:
    """Forget files whose bytes are gone, and record that."""
    oldest = connection.execute(select(file.c.created).where(file.c.id.in_(files)).order_by(file.c.created)).scalar()
    connection.execute(delete(file_use).where(file_use.c.file.in_(files)))
    connection.execute(delete(file).where(file.c.id.in_(files)))
    values = {"at": now, "what": "file", "count": len(files), "oldest": oldest or now, "rule": rule}
    connection.execute(insert(purge).values(**values))
