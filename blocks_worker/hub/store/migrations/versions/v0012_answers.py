"""Tasks put questions to their consumers, and keep the answers."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add what tells of the open question, and the table of answers; nobody has asked so far."""
    op.add_column("task", sa.Column("ask_id", sa.Text, nullable=True))
    op.add_column("task", sa.Column("ask_until", sa.Integer, nullable=True))
    op.add_column("task", sa.Column("question", sa.Text, nullable=True))
    op.create_index("task_asks", "task", ["agent"], sqlite_where=sa.text("state = 'INPUT_REQUIRED'"))
    op.create_table(
        "answer",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("ask_id", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=True),
        sa.Column("at", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
