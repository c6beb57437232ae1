"""Copies of the ledger: one before its tables change, one whenever its owner wants it, and back into its place.

A copy says of itself that it is one. A hub that starts on it knows by that word that the ledger went back in time.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError
from blocks_worker.hub.store import revisions
from blocks_worker.state import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: In `meta` of a copy: it was not written since.
COPIED = "copied_from"
#: What the ledger that a copy took the place of is called from then on, behind its name; the second one `replaced-2`.
REPLACED = "replaced"
#: What SQLite keeps beside a ledger, of which it holds commits.
_BESIDE = ("-wal", "-shm")


def keep_copy(reader: sqlite3.Connection, path: Path, version: str) -> Path:
    """Copy what the connection reads to a file that names the version; it is on the disk before this returns."""
    copy = path.with_name(f"{path.name}.v{version}.backup")
    with _draft_of(copy) as draft:
        reader.execute("VACUUM INTO ?", (str(draft),))
        _put(draft, copy)
    return copy


def copy_ledger(path: Path, to: Path) -> None:
    """Copy a ledger, which a hub may be writing meanwhile, to a new file; it is on the disk before this returns.

    Raises:
        StoreError: there is no sound ledger, or something stands where the copy is to be.
    """
    if to.exists():
        raise StoreError(f"{to} is there already: name a new file", code="exists")
    with _draft_of(to) as draft:
        _take(path, draft)
        _put(draft, to)


def put_back(copy: Path, path: Path) -> Path | None:
    """Put a copy in the ledger's place; return where the ledger that was there lies now. No hub may run on it.

    Whatever file it is, what lies in the place afterwards says of itself that it is a copy.

    Raises:
        StoreError: it is no sound ledger; nothing was changed.
    """
    with _draft_of(path) as draft:
        _take(copy, draft)
        aside = _put_aside(path) if path.exists() else None
        _put(draft, path)
    return aside


def drop_others(path: Path, copy: Path) -> None:
    """Delete the copies of earlier versions."""
    for other in path.parent.glob(f"{path.name}.v[0-9][0-9][0-9][0-9].backup"):
        if other != copy:
            other.unlink(missing_ok=True)


def _take(path: Path, draft: Path) -> None:
    """Fill the draft with the ledger of a path, checked."""
    if not path.is_file():
        raise StoreError(f"there is no ledger at {path}", code="missing")
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("PRAGMA busy_timeout=5000").fetchall()
            if revisions.find(reader, path, revisions.known(revisions.SCRIPTS)) is None:
                raise StoreError(f"there is no ledger at {path}: the file is empty", code="missing")
            _check(reader, path)
            _fill(reader, draft, path)
    except sqlite3.Error as error:
        raise StoreError(f"{path} can not be copied ({error})", code="damaged") from error


def _fill(reader: sqlite3.Connection, draft: Path, source: Path) -> None:
    """Write what the connection reads to the draft, look whether it is sound, and have it say that it is a copy."""
    reader.execute("VACUUM INTO ?", (str(draft),))
    with closing(sqlite3.connect(draft, isolation_level=None)) as writer:
        _check(writer, source)
        writer.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (COPIED, source.name))


def _check(driver: sqlite3.Connection, source: Path) -> None:
    (sound,) = driver.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise StoreError(f"{source} is damaged ({sound}): it can not be copied", code="damaged")


@contextmanager
def _draft_of(copy: Path) -> Iterator[Path]:
    """Give a new empty file beside the copy; whatever fails, it is gone.

    Made here, because SQLite would make it readable for others.
    """
    draft = copy.with_name(f".{copy.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unwritable(copy.parent, error) from error
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> StoreError:
    if not folder.is_dir():
        wrong = "is no folder" if folder.exists() else "is not there"
        return StoreError(f"the folder {folder} {wrong}: make it, or name a file in another one", code="folder")
    why = error.strerror or error
    text = f"nothing can be written to the folder {folder} ({why}): mend its rights, or name a file in another one"
    return StoreError(text, code="folder")


def _put(draft: Path, to: Path) -> None:
    """Give a draft its name, once all of it is on the disk."""
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(to)
    sync_folder(to.parent)


def _put_aside(path: Path) -> Path:
    """Keep the ledger under another name, with what lies beside it; a copy never meets the commits of another file."""
    aside = _linked_aside(path)
    for beside in _BESIDE:
        kept = aside.with_name(aside.name + beside)
        kept.unlink(missing_ok=True)
        found = path.with_name(path.name + beside)
        if found.exists():
            found.replace(kept)
    return aside


def _linked_aside(path: Path) -> Path:
    """Give the ledger a second name that nothing has: what was replaced before is kept too."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.{REPLACED}" + (f"-{number}" if number > 1 else ""))
        with suppress(FileExistsError):
            aside.hardlink_to(path)
            break
    return aside
