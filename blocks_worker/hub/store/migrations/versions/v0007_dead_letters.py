"""A task says why the hub gave it up, and those are found by it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the reason, and find it for the tasks that were given up before; their purge stays where it was fixed."""
    op.add_column("task", sa.Column("dead_reason", sa.Text, nullable=True))
    op.execute(
        "UPDATE task SET dead_reason = CASE"
        " WHEN error_code = 'lease_lost' AND delivery = 'at_least_once' AND kind = 'request' THEN 'poison'"
        " WHEN error_code = 'lease_lost' THEN 'lease_lost' ELSE 'queue_ttl' END"
        " WHERE (state = 'FAILED' AND error_code = 'lease_lost') OR (state = 'EXPIRED' AND reason = 'queue_ttl')"
    )
    op.create_index("task_dead", "task", ["owner", "id"], sqlite_where=sa.text("dead_reason IS NOT NULL"))
