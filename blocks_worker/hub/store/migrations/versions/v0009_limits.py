"""An agent may have a limit over all its instances."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; the agents that are there have no limit."""
    op.add_column("agent", sa.Column("concurrency_limit", sa.Integer, nullable=True))
