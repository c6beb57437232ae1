"""Something stays of a purged task for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table; of what was purged before nothing is known any more."""
    op.create_table(
        "stub",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("idem", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=True),
        sa.Column("ended", sa.Integer, nullable=False),
        sa.Column("purged_at", sa.Integer, nullable=False),
        sa.Column("purged_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("stub_key", "stub", ["owner", "agent", "idem"], sqlite_where=sa.text("idem IS NOT NULL"))
    op.create_index("stub_purged", "stub", ["purged_at"])
