"""A copy of the ledger beside it, kept from before its tables change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def keep_copy(reader: sqlite3.Connection, path: Path, version: str) -> Path:
    """Copy what the connection reads to a file that names the version; it is on the disk before this returns."""
    copy = path.with_name(f"{path.name}.v{version}.backup")
    draft = path.with_name(f".{copy.name}.draft")
    draft.unlink(missing_ok=True)
    # Made here, empty, because SQLite would make it readable for others.
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reader.execute("VACUUM INTO ?", (str(draft),))
        os.fsync(handle)
        draft.replace(copy)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    _sync_folder(path.parent)
    return copy


def drop_others(path: Path, copy: Path) -> None:
    """Delete the copies of earlier versions."""
    for other in path.parent.glob(f"{path.name}.v[0-9][0-9][0-9][0-9].backup"):
        if other != copy:
            other.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
