"""What can be said to the ledger inside one open transaction: verbs of the domain, one compare-and-set each.

A verb that returns a bool tells whether the row was as expected and is changed now. What is to be said on the
bus once the transaction is committed gathers in `outbox`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from blocks_worker.hub.store import files
from blocks_worker.hub.store import statements as sql
from blocks_worker.hub.store.backup import COPIED
from blocks_worker.hub.store.records import AgentFacts, Candidate, InstanceRecord, StubRecord, TaskRecord
from blocks_worker.hub.store.schema import event, instance, meta, purge, task
from blocks_worker.hub.store.survey import PURGED, stub_of, with_purged
from blocks_worker.hub.store.task_steps import TaskSteps
from blocks_worker.hub.store.transaction import Publication
from blocks_worker.hub.store.usage import Usage
from blocks_worker.protocol.channels import task_channel
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.events import event_head, numbered, stored_event
from blocks_worker.protocol.lifecycle import EVERYBODY, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from blocks_worker.hub.store.filters import TaskFilter
    from blocks_worker.hub.store.numbering import Numbering
    from blocks_worker.protocol.leases import ReportEvent

_PUBLISHED = "published_seq"
_RUNG = "control_seq"
#: Sessions besides the first that are told of one task; a further one takes the place of the oldest.
MOST_WATCHERS = 16
#: Events of the hub's own that an end names.
MOST_WORDS = 16
#: What a copy cannot know was given since: so many epochs of a task, so many numbers of events.
EPOCHS_LEFT_OUT = 1 << 20
EVENTS_LEFT_OUT = 1 << 32


class Ledger(TaskSteps, Usage):
    """Be the open transaction: each verb a statement or two, those of frequent verbs run together."""

    def __init__(self, connection: Connection, driver: sqlite3.Connection, numbering: Numbering) -> None:
        super().__init__(connection, driver)
        self._numbering = numbering
        #: Start bodies, ids, and ids by idempotency key, of the tasks that were taken in.
        self._starts: dict[str, bytes] = {}
        self._new: dict[str, None] = {}
        self._keys: dict[tuple[str, str, str], str] = {}

    # -------------------------------------------------------------------------------------------- rows
    def task(self, task_id: str) -> TaskRecord | None:
        """Return the task."""
        return self._group.task(task_id)

    def task_by_key(self, owner: str, agent: str, key: str) -> TaskRecord | None:
        """Return the task that was asked for under an idempotency key."""
        found = self._keys.get((owner, agent, key))
        if found is not None:
            return self.task(found)
        row = self._group.look(sql.TASK_BY_KEY, {"o": owner, "a": agent, "k": key}).fetchone()
        return None if row is None else self.task(row[0])

    def insert_task(self, record: TaskRecord, start: bytes) -> None:
        """Take a new task in."""
        self._group.insert(sql.INSERT_TASK, record)
        self._group.keep(sql.INSERT_INPUT, (record.id, start))
        self._starts[record.id] = start
        self._new[record.id] = None
        if record.idem is not None:
            self._keys[(record.owner, record.agent, record.idem)] = record.id

    def start(self, task_id: str) -> bytes:
        """Return the start body as it was stored."""
        known = self._starts.get(task_id)
        if known is not None:
            return known
        row = self._group.look(sql.INPUT, {"key": task_id}).fetchone()
        return bytes(row[0])

    def read_starts(self, rows: Iterable[TaskRecord], most: int) -> None:
        """Read the start bodies of these at once, as far as they have at most so many bytes, for `start`."""
        unread = [row.id for row in rows if row.id not in self._starts]
        if unread:
            found = self._group.look(sql.INPUTS, {"keys": encode(unread).decode(), "most": most})
            self._starts.update((task_id, bytes(start)) for task_id, start in found)

    def tasks_of(self, incarnation: str) -> list[TaskRecord]:
        """Return what is offered to, or held by, one incarnation, alone or with others."""
        return self._tasks(sql.HELD_BY, by=incarnation) + self._tasks(sql.OFFERED_WITH, by=incarnation)

    def offered_to(self, row: TaskRecord) -> list[str]:
        """Return the incarnations that a task which is offered may be claimed by."""
        if row.inc != EVERYBODY:
            return [] if row.inc is None else [row.inc]
        return [inc for (inc,) in self._group.execute(sql.OFFERED_TO, {"key": row.id}).fetchall()]

    def offer_with_others(self, task_id: str, incarnations: Iterable[str]) -> None:
        """Note whom a task is offered to that is offered to everybody."""
        self._group.executemany(sql.INSERT_OFFER, [{"task": task_id, "inc": inc} for inc in incarnations])

    def decline(self, task_id: str, by: str) -> bool:
        """Offer a task that is offered to everybody no longer to this one."""
        return self._run(sql.DELETE_OFFER, key=task_id, by=by)

    def drop_offers(self, task_id: str) -> None:
        """Forget whom a task was offered to together with others."""
        self._group.execute(sql.DELETE_OFFERS, {"key": task_id})

    def children(self, task_id: str) -> list[TaskRecord]:
        """Return the tasks that this one asked for and that have not ended."""
        return [] if self._group.is_childless(task_id) else self._tasks(sql.CHILDREN, key=task_id)

    def waiting(self, agent: str, now: int, most: int) -> list[TaskRecord]:
        """Return the tasks that wait for an instance of the agent, those of the lowest rank first."""
        return self._tasks(sql.WAITING, a=agent, now=now, most=most)

    def newcomers(self, agent: str, now: int) -> list[TaskRecord]:
        """Return as `waiting` does which tasks wait of those that this transaction has taken in."""
        rows = [row for row in map(self.task, self._new) if row is not None and row.agent == agent]
        return sorted((row for row in rows if _waits(row, now)), key=lambda row: (row.rank, row.id))

    def count_waiting(self, agent: str) -> int:
        """Count what waits for the agent: dear when it is much."""
        return int(self._group.execute(sql.COUNT_WAITING, {"a": agent}).fetchone()[0])

    def below_limit(self, facts: AgentFacts) -> int | None:
        """Return how many tasks of the agent may be offered besides those that are, by its limit; None without one."""
        if facts.concurrency_limit is None:
            return None
        taken = int(self._group.execute(sql.COUNT_TAKEN, {"a": facts.name}).fetchone()[0])
        return max(0, facts.concurrency_limit - taken)

    def has_tasks(self, agent: str) -> bool:
        """Tell whether a task of the agent has not ended."""
        return bool(self._group.execute(sql.HAS_TASKS, {"a": agent}).fetchone()[0])

    def due(self, now: int, most: int) -> list[TaskRecord]:
        """Return tasks that a time limit has reached."""
        return self._tasks(sql.DUE, now=now, most=most)

    def look_later(self, task_id: str, until: int) -> None:
        """Let the sweeper look at the task again only then."""
        self._group.execute(sql.PUT_OFF, {"key": task_id, "due": until})

    def page(self, owner: str, wanted: TaskFilter, *, before: str | None, most: int) -> list[TaskRecord]:
        """Return tasks of an owner, newest id first."""
        query = select(task).where(*wanted.conditions(owner)).order_by(task.c.id.desc()).limit(most)
        if before is not None:
            query = query.where(task.c.id < before)
        return [TaskRecord._make(row) for row in self.connection.execute(query)]

    def count(self, owner: str, wanted: TaskFilter, *, most: int) -> int | None:
        """Count the tasks that `page` would show; None where the owner has more than `most` tasks of any kind."""
        mine = select(task.c.id).where(task.c.owner == owner).order_by(task.c.id.desc())
        if self.connection.execute(mine.offset(most).limit(1)).first() is not None:
            return None
        query = select(func.count()).select_from(task).where(*wanted.conditions(owner))
        return int(self.connection.execute(query).scalar_one())

    def watch(self, row: TaskRecord, billing_mode: str, channel: str) -> bool:
        """Have a task that is not over speak on one more channel from now on; once is enough for each."""
        line = f"{billing_mode} {channel}"
        if line == f"{row.billing_mode} {row.session}" or line in _lines(row.watchers):
            return True
        kept = [*_lines(row.watchers), line][-MOST_WATCHERS:]
        return self._run(sql.WATCH, key=row.id, watchers="\n".join(kept))

    # -------------------------------------------------------------------------------------------- events
    def append(self, row: TaskRecord, by: str, events: Sequence[ReportEvent], now: int) -> bool:
        """Store a run's next events, contiguous behind the last one, and say them."""
        low, high = row.last_n, row.last_n + len(events)
        size = sum(memoryview(item.body).nbytes for item in events)
        after = row.changed(last_n=high, event_bytes=row.event_bytes + size, updated=now)
        if not self._kept_turn(sql.APPEND, row, after, by=by, lo=low, hi=high, size=size, now=now):
            return False
        head = event_head(row.id, row.epoch, now)
        for item in events:
            self._store(row, row.epoch, item.n, stored_event(head, item.n, bytes(item.body)), ends=False)
        return True

    def say(self, row: TaskRecord, epoch: int, head: dict[str, Any], *, ends: bool = False) -> None:
        """Store an event of the hub's own, which has no `n`, and say it."""
        told = {"taskId": row.id, "epoch": epoch, "protocolVersion": "1", **head}
        self._store(row, epoch, None, encode(told), ends=ends)

    def events(self, task_id: str, after: int, most: int) -> list[bytes]:
        """Return stored events as readers get them."""
        found = self._group.execute(sql.EVENTS, {"key": task_id, "after": after, "most": most}).fetchall()
        return [numbered(body, seq) for seq, body in found]

    def words(self, row: TaskRecord) -> list[int]:
        """Return the places of what the hub itself said of a task in its epoch, the last few of them."""
        values = {"key": row.id, "epoch": row.epoch, "most": MOST_WORDS}
        return sorted(seq for (seq,) in self._group.execute(sql.WORDS, values).fetchall())

    def events_after(self, seq: int, limit: int) -> list[Publication]:
        """Return what was stored after a number, to be said again; every event is on each channel of its task."""
        about = (task.c.id, task.c.owner, task.c.session, task.c.billing_mode, task.c.watchers)
        query = (
            select(event.c.seq, event.c.body, event.c.n, *about)
            .join(task, task.c.id == event.c.task)
            .where(event.c.seq > seq)
            .order_by(event.c.seq)
            .limit(limit)
        )
        found: list[Publication] = []
        for row in self.connection.execute(query):
            ends = row.n is None and b'"type":"terminal"' in row.body
            found += _publications(row, row.seq, row.body, ends=ends)
        return found

    def save_published(self, seq: int) -> None:
        """Remember up to which number everything was said."""
        self.set_meta(_PUBLISHED, str(seq))

    def published(self) -> int:
        """Return up to which number everything was said."""
        return int(self.meta(_PUBLISHED) or 0)

    def begin_anew(self) -> bool:
        """Tell whether this ledger is a copy that came back; then nothing that was said since is said again.

        Epochs of what goes on and numbers of events go on far behind those that the copy cannot know of.
        """
        if self.meta(COPIED) is None:
            return False
        self.connection.execute(delete(meta).where(meta.c.key == COPIED))
        later = {"epoch": task.c.epoch + EPOCHS_LEFT_OUT, "last_n": 0}
        self.connection.execute(update(task).where(task.c.ended.is_(None)).values(later))
        self._numbering.leave_out(EVENTS_LEFT_OUT)
        self.save_published(self._numbering.last)
        return True

    def waiting_once(self) -> list[TaskRecord]:
        """Return the tasks that wait and may not begin twice."""
        found = self.connection.execute(select(task).where(task.c.state == State.QUEUED.value))
        return [row for row in map(TaskRecord._make, found) if not row.may_run_again]

    def save_rung(self, sequence: int) -> None:
        """Remember the number of a control message that is the last so far."""
        self.set_meta(_RUNG, str(sequence))

    def rung(self) -> int:
        """Return the number of the last control message that was remembered."""
        return int(self.meta(_RUNG) or 0)

    # -------------------------------------------------------------------------------------------- cold rows
    def meta(self, key: str) -> str | None:
        """Return a remembered value."""
        row = self._group.execute(sql.META, {"name": key}).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        self._group.execute(sql.SET_META, {"name": key, "said": value})

    def agent(self, name: str) -> AgentFacts | None:
        """Return what decides about the tasks of an agent."""
        return self.remembered(("agent", name), lambda: self._agent(name))

    def _agent(self, name: str) -> AgentFacts | None:
        row = self._group.look(sql.AGENT, {"a": name}).fetchone()
        return None if row is None else AgentFacts._make(row)

    def candidates(self, agent: str) -> list[Candidate]:
        """Return the agent's instances that take offers, with their free slots by the hub's own count."""
        found = self._group.execute(sql.CANDIDATES, {"a": agent}).fetchall()
        return [Candidate(*row) for row in found]

    def instance(self, incarnation: str) -> InstanceRecord | None:
        """Return one process life of an instance."""
        row = self._group.execute(sql.INSTANCE, {"by": incarnation}).fetchone()
        return None if row is None else InstanceRecord._make(row)

    def instances(
        self, *, agent: str | None = None, owner: str | None = None, instance_id: str | None = None
    ) -> list[InstanceRecord]:
        """Return the instances that are not gone, the first that connected first."""
        if agent is owner is instance_id is None:
            rows = [InstanceRecord._make(row) for row in self._group.execute(sql.INSTANCES, {}).fetchall()]
            return sorted(rows, key=lambda row: row.connected_at)
        query = select(instance).where(instance.c.ended.is_(None)).order_by(instance.c.connected_at)
        for column, value in (
            (instance.c.agent, agent),
            (instance.c.owner, owner),
            (instance.c.instance_id, instance_id),
        ):
            if value is not None:
                query = query.where(column == value)
        return [InstanceRecord._make(row) for row in self.connection.execute(query)]

    def insert_instance(self, record: InstanceRecord) -> None:
        """Take in a new process life."""
        self.connection.execute(insert(instance).values(**record._asdict()))

    def set_instance(self, incarnation: str, **values: Any) -> None:
        """Change what is known of an instance."""
        self.connection.execute(update(instance).where(instance.c.incarnation == incarnation).values(**values))

    # -------------------------------------------------------------------------------------------- purge
    def purge_tasks(self, now: int, most: int, rule: str) -> int:
        """Delete ended tasks whose time is over, as `purge` does; return how many."""
        return self.purge(self._tasks(sql.PURGE_DUE, now=now, most=most), now, rule)

    def purge(self, rows: Sequence[TaskRecord], now: int, rule: str) -> int:
        """Delete ended tasks and what belongs to them, leave a stub of each, and record that; return how many."""
        if not rows:
            return 0
        keys = [{"key": row.id} for row in rows]
        files.release(self.connection, [row.id for row in rows], now)
        for owner, size in self.room_of((row.id, row.owner) for row in rows).items():
            self.use_room(owner, -size)
        for text in (sql.DELETE_EVENTS, sql.DELETE_STEPS, sql.DELETE_ANSWERS, sql.DELETE_INPUT, sql.DELETE_TASK):
            self._group.executemany(text, keys)
        self._group.executemany(sql.INSERT_STUB, [stub_of(row, now, rule)._asdict() for row in rows])
        self.set_meta(PURGED, with_purged(self.meta(PURGED), [(row.agent, row.state, row.reason) for row in rows]))
        oldest = min(row.ended or now for row in rows)
        self.connection.execute(insert(purge).values(at=now, what="task", count=len(keys), oldest=oldest, rule=rule))
        self.noted("purged", what="task", count=len(keys), rule=rule)
        return len(keys)

    def stub(self, task_id: str) -> StubRecord | None:
        """Return what stays of a purged task."""
        if self._group.was_never_purged(task_id):
            return None
        row = self._group.look(sql.STUB, {"key": task_id}).fetchone()
        return None if row is None else StubRecord._make(row)

    def stub_by_key(self, owner: str, agent: str, key: str, since: int) -> StubRecord | None:
        """Return what stays of the purged task that was asked for under a key, and ended after that."""
        row = self._group.look(sql.STUB_BY_KEY, {"o": owner, "a": agent, "k": key, "since": since}).fetchone()
        return None if row is None else StubRecord._make(row)

    def drop_stubs(self, purged_before: int) -> None:
        """Forget what was purged before then."""
        self._group.execute(sql.DELETE_STUBS, {"before": purged_before})

    def purge_instances(self, ended_before: int) -> int:
        """Delete instances that ended before then; return how many."""
        return self.connection.execute(instance.delete().where(instance.c.ended < ended_before)).rowcount

    # -------------------------------------------------------------------------------------------- inside
    def _tasks(self, text: str, **values: Any) -> list[TaskRecord]:
        return self._group.tasks(text, values)

    def _store(self, row: TaskRecord, epoch: int, n: int | None, body: bytes, *, ends: bool) -> None:
        seq = self._numbering.next()
        self._group.keep(sql.INSERT_EVENT, (seq, row.id, epoch, n, body))
        self.outbox += _publications(row, seq, body, ends=ends)


def _waits(row: TaskRecord, now: int) -> bool:
    """Tell whether a task is one of those that `WAITING` finds."""
    in_time = row.deadline is None or row.deadline > now
    return row.state == State.QUEUED.value and not row.pause and row.ready_at is None and in_time


def _publications(row: Any, seq: int, body: bytes, *, ends: bool) -> list[Publication]:
    message, mode = numbered(body, seq), row.billing_mode
    said = [] if row.session is None else [Publication(row.session, message, mode, seq)]
    for line in _lines(row.watchers):
        billing_mode, _, channel = line.partition(" ")
        said.append(Publication(channel, message, billing_mode, seq))
    said.append(Publication(task_channel(row.owner, row.id), message, mode, seq, ends))
    return said


def _lines(watchers: str | None) -> list[str]:
    return watchers.split("\n") if watchers else []
