"""Whether a hub could open what its last life left in the state folder: the ledger and the secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blocks_worker.cli.findings import of_error
from blocks_worker.errors import ConfigurationError, StoreError
from blocks_worker.hub.auth.signing import read_keys
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.kept import SECRET
from blocks_worker.hub.store.looking import look_at_ledger
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.cli.findings import Found
    from blocks_worker.config import Connection


def kept(connection: Connection) -> Iterator[Found]:
    """Look at both, unless a hub runs, which has opened them, or is elsewhere."""
    folder = StateFolder(connection.state_dir)
    try:
        if not connection.is_local or not folder.path.is_dir() or folder.discovered() is not None:
            return
    except ConfigurationError:
        return  # told of the state folder
    try:
        folder.check_secret(SECRET)
        read_keys(folder)
    except ConfigurationError as error:
        yield of_error("state folder", error)
    ledger = folder.path / DATABASE
    try:
        # What a hub that was killed left beside it belongs to it, and only a start reads it together.
        if ledger.exists() and not ledger.with_name(f"{DATABASE}-wal").exists():
            look_at_ledger(ledger)
    except StoreError as error:
        said, _, cure = str(error).rpartition(": ")
        yield replace(of_error("ledger", error), text=said, cure=cure)
    except OSError:
        return  # told of the state folder
