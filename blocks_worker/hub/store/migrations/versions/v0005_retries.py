"""Tasks may be run again by a policy, and may be sent again as others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what tells of both; what is there was sent once and fails at its first failure."""
    op.add_column("task", sa.Column("retry_of", sa.Text, nullable=True))
    op.add_column("task", sa.Column("retry", sa.Text, nullable=True))
    op.add_column("task", sa.Column("retries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("task", sa.Column("ready_at", sa.Integer, nullable=True))
    # What waits for its next run is passed over without being read.
    op.drop_index("task_queue", "task")
    columns = ["agent", "pause", "ready_at", "created", "id"]
    op.create_index("task_queue", "task", columns, sqlite_where=sa.text("state = 'QUEUED'"))
