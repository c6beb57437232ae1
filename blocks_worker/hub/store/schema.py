"""The tables of the ledger, as they are now.

A change here needs a script in `migrations/versions`, which makes it in the ledgers that are there.

Times are unix milliseconds as whole numbers. `task.due_at` is when the sweeper has to look at a task that has
not ended, whatever the reason; `task.purge_at` is when an ended one goes. `task.inc` is set exactly while the
task is offered or held, so one partial index counts the slots in use; while it is offered to everybody it is `*`, and
`offer` has a row for each incarnation that has neither taken nor refused it. `task.watchers` is where the task speaks
besides its own channels: a line a session, its billing mode and its channel.
`task.duration` is a pipe's, in minutes, and `expires_at` when it is over: fixed with its first lease. `task.pause`
is what the consumer wants and `pause_seq` how often he turned it; `paused` that the handler waits for the resume,
`parked` that the run takes no slot. `retry_of` is the task that was sent again as this one, `dead_reason` why the
hub gave a task up. `retry` is a retry policy as JSON, `retries` how many runs may still fail, `ready_at` the end of
its delay, or of the pause after one that did: it is cleared then, so that what waits is found by its absence.
`ask_id` is the question that is open and `ask_until` when nobody waits for the answer any more, both cleared with the
answer; `question` the text and schema of the last one, as JSON.
`rank` is its place in the queue, the lowest first: when it may be offered, less a minute for each level of `priority`.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

metadata = MetaData()


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable)


def _flag(name: str) -> Column[int]:
    """Return a number that begins at 0, in rows that are there already too."""
    return Column(name, Integer, nullable=False, server_default="0")


task = Table(
    "task",
    metadata,
    Column("id", Text, primary_key=True),
    _text("owner"),
    _text("agent"),
    _text("billing_mode"),
    _text("session", nullable=True),
    _text("idem", nullable=True),
    _text("body_digest"),
    _text("parent", nullable=True),
    _text("state"),
    _number("epoch"),
    _number("attempt"),
    _number("lost"),
    _text("delivery"),
    _text("inc", nullable=True),
    _text("lost_inc", nullable=True),
    _number("last_n"),
    _text("digest"),
    _text("outcome_digest", nullable=True),
    Column("max_runtime", Float, nullable=False),
    _number("deadline", nullable=True),
    _number("queue_until", nullable=True),
    _number("offer_until", nullable=True),
    _number("leased_at", nullable=True),
    _number("cancel_at", nullable=True),
    _number("force_at", nullable=True),
    _text("error", nullable=True),
    _text("error_code", nullable=True),
    _text("reason", nullable=True),
    _number("created"),
    _number("updated"),
    _number("ended", nullable=True),
    _number("due_at", nullable=True),
    _number("purge_at", nullable=True),
    _text("watchers", nullable=True),
    Column("kind", Text, nullable=False, server_default="request"),
    _number("duration", nullable=True),
    _number("expires_at", nullable=True),
    _flag("pause"),
    _flag("pause_seq"),
    _flag("paused"),
    _flag("parked"),
    _text("retry_of", nullable=True),
    _text("retry", nullable=True),
    _flag("retries"),
    _number("ready_at", nullable=True),
    _text("dead_reason", nullable=True),
    Column("priority", Integer, nullable=False, server_default="5"),
    _flag("rank"),
    _text("ask_id", nullable=True),
    _number("ask_until", nullable=True),
    _text("question", nullable=True),
    Column("progress_timeout", Float, nullable=True),
    _flag("event_bytes"),
    sqlite_with_rowid=False,
)
Index("task_owner", task.c.owner, task.c.id)
Index("task_key", task.c.owner, task.c.agent, task.c.idem, unique=True, sqlite_where=text("idem IS NOT NULL"))
Index(
    "task_queue",
    task.c.agent,
    task.c.pause,
    task.c.ready_at,
    task.c.rank,
    task.c.id,
    sqlite_where=text("state = 'QUEUED'"),
)
Index("task_asks", task.c.agent, sqlite_where=text("state = 'INPUT_REQUIRED'"))
Index("task_held", task.c.inc, sqlite_where=text("inc IS NOT NULL"))
Index("task_due", task.c.due_at, sqlite_where=text("due_at IS NOT NULL"))
Index("task_purge", task.c.purge_at, sqlite_where=text("purge_at IS NOT NULL"))
Index("task_dead", task.c.owner, task.c.id, sqlite_where=text("dead_reason IS NOT NULL"))
Index("task_parent", task.c.parent, sqlite_where=text("parent IS NOT NULL AND ended IS NULL"))

offer = Table(
    "offer",
    metadata,
    Column("task", Text, primary_key=True),
    Column("inc", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("offer_inc", offer.c.inc)

#: What was answered to a question of a task: the first value, as JSON; none where its time was over first. It is
#: written once, and what every later run of the task is told.
answer = Table(
    "answer",
    metadata,
    Column("task", Text, primary_key=True),
    Column("ask_id", Text, primary_key=True),
    Column("value", LargeBinary, nullable=True),
    _number("at"),
    sqlite_with_rowid=False,
)

#: Apart from the task, so that a turn of the task does not write its input again.
task_input = Table(
    "task_input",
    metadata,
    Column("task", Text, primary_key=True),
    Column("start", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: What runs of a task did under a name: the first value stays. The index alone answers how many there are.
step = Table(
    "step",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("task"),
    _text("name"),
    Column("value", LargeBinary, nullable=False),
)
Index("step_name", step.c.task, step.c.name, unique=True)

#: `n` is None for the hub's own events. That an epoch holds 1…last_n once each is kept by the compare-and-set
#: on `task.last_n`, which costs no second index.
event = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    _text("task"),
    _number("epoch"),
    _number("n", nullable=True),
    Column("body", LargeBinary, nullable=False),
)
Index("event_task", event.c.task)

instance = Table(
    "instance",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("incarnation", Text, nullable=False, unique=True),
    _text("owner"),
    _text("instance_id"),
    _text("agent"),
    _text("billing_mode"),
    _text("state"),
    _number("concurrency"),
    _number("started_at"),
    _number("connected_at"),
    _number("last_seen"),
    _text("host", nullable=True),
    _number("pid", nullable=True),
    _text("process_started", nullable=True),
    _number("ended", nullable=True),
)
Index("instance_alive", instance.c.agent, sqlite_where=text("ended IS NULL"))
Index("instance_name", instance.c.owner, instance.c.instance_id, sqlite_where=text("ended IS NULL"))

agent = Table(
    "agent",
    metadata,
    Column("name", Text, primary_key=True),
    _text("owner"),
    _text("description"),
    _text("tags"),
    _text("card", nullable=True),
    _text("card_ref", nullable=True),
    _text("card_summary", nullable=True),
    _text("billing_mode"),
    _text("listing"),
    _number("concurrency"),
    _number("expected_instances"),
    _number("max_pending_backlog"),
    _number("max_running_time_sec"),
    _text("delivery"),
    _number("registered_at"),
    _number("updated"),
    Column("offline", Boolean, nullable=False, server_default="0"),
    _number("concurrency_limit", nullable=True),
    _number("progress_timeout_sec", nullable=True),
)

api_key = Table(
    "api_key",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("owner"),
    _text("name"),
    _number("created"),
    Column("revoked", Boolean, nullable=False),
    _number("last_used", nullable=True),
)

refresh_token = Table(
    "refresh_token",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("kind"),
    _text("subject"),
    _number("expires"),
    _number("created"),
    Column("used", Boolean, nullable=False),
)
Index("refresh_token_expires", refresh_token.c.expires)

#: A stored file. `upload` is the hash of the secret by which its bytes may be sent, once, until `upload_until`.
file = Table(
    "file",
    metadata,
    Column("id", Text, primary_key=True),
    _text("owner"),
    _text("role"),
    _text("agent", nullable=True),
    _text("task", nullable=True),
    _text("name", nullable=True),
    _text("mime"),
    _number("size"),
    _text("sha256", nullable=True),
    _text("state"),
    _text("upload", nullable=True),
    _number("upload_until", nullable=True),
    _number("created"),
    _number("purge_at", nullable=True),
    sqlite_with_rowid=False,
)
Index("file_upload", file.c.upload, unique=True, sqlite_where=text("upload IS NOT NULL"))
Index("file_purge", file.c.purge_at, sqlite_where=text("purge_at IS NOT NULL"))

#: Which tasks use a file, as input or output: it stays as long as one of them.
file_use = Table(
    "file_use",
    metadata,
    Column("task", Text, primary_key=True),
    Column("file", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("file_use_file", file_use.c.file)

#: Bytes of the inputs that are kept for each owner, those of tasks and those that are files.
usage = Table(
    "usage",
    metadata,
    Column("owner", Text, primary_key=True),
    _flag("input_bytes"),
    sqlite_with_rowid=False,
)

meta = Table("meta", metadata, Column("key", Text, primary_key=True), _text("value"))

#: What stays of a purged task for a while, so that whoever asks is told, and nobody makes it anew.
stub = Table(
    "stub",
    metadata,
    Column("id", Text, primary_key=True),
    _text("owner"),
    _text("agent"),
    _text("idem", nullable=True),
    _text("state"),
    _text("digest", nullable=True),
    _number("ended"),
    _number("purged_at"),
    _text("purged_by"),
    sqlite_with_rowid=False,
)
Index("stub_key", stub.c.owner, stub.c.agent, stub.c.idem, sqlite_where=text("idem IS NOT NULL"))
Index("stub_purged", stub.c.purged_at)

#: What was purged: one row a sweep that purged something.
purge = Table(
    "purge",
    metadata,
    Column("id", Integer, primary_key=True),
    _number("at"),
    _text("what"),
    _number("count"),
    _number("oldest"),
    _text("rule"),
)


@cache
def creation() -> tuple[str, ...]:
    """Return the statements that make all of it in an empty database."""
    dialect = sqlite.dialect()
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))]
    return tuple(str(each.compile(dialect=dialect)) for each in made)
