"""The first tables: what the ledger was when its versions began to be numbered."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table and index."""
    _task()
    _task_input()
    _event()
    _instance()
    _agent()
    _api_key()
    _refresh_token()
    _file()
    _file_use()
    _meta()
    _purge()


def _task() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("billing_mode", sa.Text, nullable=False),
        sa.Column("session", sa.Text, nullable=True),
        sa.Column("idem", sa.Text, nullable=True),
        sa.Column("body_digest", sa.Text, nullable=False),
        sa.Column("parent", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("delivery", sa.Text, nullable=False),
        sa.Column("inc", sa.Text, nullable=True),
        sa.Column("lost_inc", sa.Text, nullable=True),
        sa.Column("last_n", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("outcome_digest", sa.Text, nullable=True),
        sa.Column("max_runtime", sa.Float, nullable=False),
        sa.Column("deadline", sa.Integer, nullable=True),
        sa.Column("queue_until", sa.Integer, nullable=True),
        sa.Column("offer_until", sa.Integer, nullable=True),
        sa.Column("leased_at", sa.Integer, nullable=True),
        sa.Column("cancel_at", sa.Integer, nullable=True),
        sa.Column("force_at", sa.Integer, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("error_code", sa.Text, nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("updated", sa.Integer, nullable=False),
        sa.Column("ended", sa.Integer, nullable=True),
        sa.Column("due_at", sa.Integer, nullable=True),
        sa.Column("purge_at", sa.Integer, nullable=True),
        sa.Column("watchers", sa.Text, nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_index("task_due", "task", ["due_at"], sqlite_where=sa.text("due_at IS NOT NULL"))
    op.create_index("task_held", "task", ["inc"], sqlite_where=sa.text("inc IS NOT NULL"))
    op.create_index(
        "task_key", "task", ["owner", "agent", "idem"], unique=True, sqlite_where=sa.text("idem IS NOT NULL")
    )
    op.create_index("task_owner", "task", ["owner", "id"])
    op.create_index("task_purge", "task", ["purge_at"], sqlite_where=sa.text("purge_at IS NOT NULL"))
    op.create_index("task_queue", "task", ["agent", "created", "id"], sqlite_where=sa.text("state = 'QUEUED'"))


def _task_input() -> None:
    op.create_table(
        "task_input",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("start", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("event_task", "event", ["task"])


def _instance() -> None:
    op.create_table(
        "instance",
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("instance_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("billing_mode", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Integer, nullable=False),
        sa.Column("connected_at", sa.Integer, nullable=False),
        sa.Column("last_seen", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=True),
        sa.Column("pid", sa.Integer, nullable=True),
        sa.Column("process_started", sa.Text, nullable=True),
        sa.Column("ended", sa.Integer, nullable=True),
    )
    op.create_index("instance_alive", "instance", ["agent"], sqlite_where=sa.text("ended IS NULL"))
    op.create_index("instance_name", "instance", ["owner", "instance_id"], sqlite_where=sa.text("ended IS NULL"))


def _agent() -> None:
    op.create_table(
        "agent",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=True),
        sa.Column("card_ref", sa.Text, nullable=True),
        sa.Column("card_summary", sa.Text, nullable=True),
        sa.Column("billing_mode", sa.Text, nullable=False),
        sa.Column("listing", sa.Text, nullable=False),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("expected_instances", sa.Integer, nullable=False),
        sa.Column("max_pending_backlog", sa.Integer, nullable=False),
        sa.Column("max_running_time_sec", sa.Integer, nullable=False),
        sa.Column("delivery", sa.Text, nullable=False),
        sa.Column("registered_at", sa.Integer, nullable=False),
        sa.Column("updated", sa.Integer, nullable=False),
    )


def _api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )


def _refresh_token() -> None:
    op.create_table(
        "refresh_token",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("expires", sa.Integer, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("used", sa.Boolean, nullable=False),
    )
    op.create_index("refresh_token_expires", "refresh_token", ["expires"])


def _file() -> None:
    op.create_table(
        "file",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=True),
        sa.Column("task", sa.Text, nullable=True),
        sa.Column("name", sa.Text, nullable=True),
        sa.Column("mime", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("upload", sa.Text, nullable=True),
        sa.Column("upload_until", sa.Integer, nullable=True),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("purge_at", sa.Integer, nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_index("file_purge", "file", ["purge_at"], sqlite_where=sa.text("purge_at IS NOT NULL"))
    op.create_index("file_upload", "file", ["upload"], unique=True, sqlite_where=sa.text("upload IS NOT NULL"))


def _file_use() -> None:
    op.create_table(
        "file_use",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("file", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("file_use_file", "file_use", ["file"])


def _meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _purge() -> None:
    op.create_table(
        "purge",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Integer, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("oldest", sa.Integer, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
    )
