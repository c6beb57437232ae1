"""A run may have to say something within a time."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"


def upgrade() -> None:
    """Add the limit of a task, and the one that its agent has."""
    op.add_column("task", sa.Column("progress_timeout", sa.Float, nullable=True))
    op.add_column("agent", sa.Column("progress_timeout_sec", sa.Integer, nullable=True))
