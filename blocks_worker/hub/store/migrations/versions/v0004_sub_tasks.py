"""The tasks that were asked for by a task are found by it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the index of those that have not ended."""
    op.create_index("task_parent", "task", ["parent"], sqlite_where=sa.text("parent IS NOT NULL AND ended IS NULL"))
