"""Tasks may be pipes with a duration, and may be paused."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what tells of both; what is there is a request that was never paused."""
    op.add_column("task", sa.Column("kind", sa.Text, nullable=False, server_default="request"))
    op.add_column("task", sa.Column("duration", sa.Integer, nullable=True))
    op.add_column("task", sa.Column("expires_at", sa.Integer, nullable=True))
    for name in ("pause", "pause_seq", "paused", "parked"):
        op.add_column("task", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    # What is paused is passed over without being read.
    op.drop_index("task_queue", "task")
    op.create_index("task_queue", "task", ["agent", "pause", "created", "id"], sqlite_where=sa.text("state = 'QUEUED'"))
