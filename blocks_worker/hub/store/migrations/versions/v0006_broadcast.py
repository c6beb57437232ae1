"""A task may be offered to several instances at once."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table of who is offered a task together with others; what is offered now is offered to one."""
    op.create_table(
        "offer",
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("inc", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("task", "inc"),
        sqlite_with_rowid=False,
    )
    op.create_index("offer_inc", "offer", ["inc"])
