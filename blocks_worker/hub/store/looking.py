"""Look at a ledger as a start would meet it, and change nothing of it, not even files beside it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from blocks_worker.hub.store import revisions, shape
from blocks_worker.hub.store.database import opening_told

if TYPE_CHECKING:
    from pathlib import Path


def look_at_ledger(path: Path) -> str | None:
    """Return the version of the ledger, None when there is nothing in it yet. No hub may have it open.

    Raises:
        StoreError: a start would refuse it; a damage in the middle of a large one is found by the start only.
    """
    with opening_told(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as driver:
        versions = revisions.known(revisions.SCRIPTS)
        version = revisions.find(driver, path, versions)
        if version == versions[-1]:
            shape.check_complete(driver, path)
        return version
