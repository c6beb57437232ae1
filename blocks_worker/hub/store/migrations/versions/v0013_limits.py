"""A run may have to say something within a time, and what it says is bounded; so are the inputs of an owner."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    """Add the limits; count the inputs that are kept, those of tasks and those that are files."""
    op.add_column("task", sa.Column("progress_timeout", sa.Float, nullable=True))
    op.add_column("task", sa.Column("event_bytes", sa.Integer, nullable=False, server_default="0"))
    op.add_column("agent", sa.Column("progress_timeout_sec", sa.Integer, nullable=True))
    op.create_table(
        "usage",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("input_bytes", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("owner"),
        sqlite_with_rowid=False,
    )
    op.execute(
        """
        INSERT INTO usage (owner, input_bytes)
        SELECT owner, sum(size) FROM (
            SELECT task.owner AS owner, length(task_input.start) AS size
            FROM task JOIN task_input ON task_input.task = task.id
            UNION ALL
            SELECT owner, size FROM file WHERE role = 'consumer-input'
        ) GROUP BY owner
        """
    )
