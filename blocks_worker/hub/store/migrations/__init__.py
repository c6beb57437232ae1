"""The door to alembic: run the numbered migrations on an open transaction.

Imported only when a ledger has to change: alembic takes longer to import than a hub takes to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection


def migrate(connection: Connection, scripts: Path, to: str) -> None:
    """Run the scripts that lead to this revision, and note it; the caller's transaction holds it all."""
    if not connection.in_transaction():
        raise RuntimeError("migrations run inside the caller's transaction, so that all of them stand or none")
    known = ScriptDirectory(scripts.parent, version_locations=[scripts])

    def steps(at: Sequence[str], _context: MigrationContext) -> Sequence[object]:
        return known._upgrade_revs(to, at)  # type: ignore[arg-type]  # noqa: SLF001 - the way alembic's own page shows

    context = MigrationContext.configure(connection, opts={"fn": steps})
    with Operations.context(context):
        context.run_migrations()
