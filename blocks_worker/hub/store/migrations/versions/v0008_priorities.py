"""Tasks have a priority, and wait by their rank."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add both; what is there has the usual priority, so that it goes on waiting in the order in which it came."""
    op.add_column("task", sa.Column("priority", sa.Integer, nullable=False, server_default="5"))
    op.add_column("task", sa.Column("rank", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE task SET rank = coalesce(ready_at, created) - 5 * 60000")
    op.drop_index("task_queue", "task")
    columns = ["agent", "pause", "ready_at", "rank", "id"]
    op.create_index("task_queue", "task", columns, sqlite_where=sa.text("state = 'QUEUED'"))
