"""API keys say when they were last used, and an agent may be offline."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the two columns."""
    op.add_column("api_key", sa.Column("last_used", sa.Integer, nullable=True))
    op.add_column("agent", sa.Column("offline", sa.Boolean, nullable=False, server_default="0"))
