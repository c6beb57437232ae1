"""`blocks backup` and `blocks restore`: a copy of the ledger while its hub works, and back into its place."""

from __future__ import annotations

from pathlib import Path

import click

from blocks_worker.cli.access import errors_told
from blocks_worker.config import client_config
from blocks_worker.errors import FolderInUseError
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.store.backup import copy_ledger, put_back
from blocks_worker.state import StateFolder

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.option(
    "--state-dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the ledger is kept.  [default: the user's]",
)


@click.command()
@click.argument("file", type=_FILE)
@_FOLDER
def backup(*, file: Path, folder: Path | None) -> None:
    """Copy the ledger of this machine's hub to a new FILE; the hub may work meanwhile.

    Stored files, secrets and keys of the state folder are not in it: copy these with any tool.
    """
    with errors_told():
        copy_ledger(_folder(folder) / DATABASE, file.absolute())
        click.echo(f"the ledger is copied to {file}; 'blocks restore {file}' puts it back")


@click.command()
@click.argument("file", type=_FILE)
@_FOLDER
def restore(*, file: Path, folder: Path | None) -> None:
    """Put a copy of the ledger, which `blocks backup` made, back in its place; its hub must not run.

    What happened since the copy is not known any more. The next hub voids all leases: workers register anew, and what
    ran is run again, but for tasks that may run once only, which end. Keys that were revoked since count again: revoke
    them again.
    """
    with errors_told():
        place = _folder(folder)
        state = StateFolder(place)
        if not state.try_lock():
            cure = "stop it first, and all workers of the folder that would take its place"
            raise FolderInUseError(f"a hub runs on the state folder {place} {state.held_by()}: {cure}")
        try:
            aside = put_back(file.absolute(), place / DATABASE)
        finally:
            state.unlock()
        click.echo(f"{file} is the ledger now" + (f"; what it replaced is {aside}" if aside else ""))


def _folder(wanted: Path | None) -> Path:
    return (wanted or client_config().connection.state_dir).absolute()
