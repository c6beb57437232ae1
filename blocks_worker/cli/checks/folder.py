"""Whether the state folder can be used: ours, writable, private, with room."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

from blocks_worker.cli.findings import Found, of_error
from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.room import disk_of, kept_free
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WHERE = "state folder"
_ALL = os.R_OK | os.W_OK | os.X_OK
_MB = 1024 * 1024
_OTHER = "name another folder in BLOCKS_STATE_DIR, one below your home for instance"
_ELSEWHERE = "or name another folder in BLOCKS_STATE_DIR"


def state_folder(path: Path) -> Iterator[Found]:
    """Look at the folder, or at where it would be made; nothing is left behind."""
    try:
        place = _nearest(path)
        found = list(_usable(path, place))
        if not any(one.level == "error" for one in found):
            found += _room(place)
    except OSError as error:
        cure = f"mend the rights above it, {_ELSEWHERE}"
        found = [Found("error", _WHERE, f"{path} cannot be looked at: {error.strerror or error}", cure)]
    yield from found or [_sound(path)]


def _nearest(path: Path) -> Path:
    """Return the folder, or the first above it that is there."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def _usable(path: Path, place: Path) -> Iterator[Found]:
    if not place.is_dir():
        yield Found("error", _WHERE, f"{place} is no folder", f"move it away, {_ELSEWHERE}")
        return
    facts = place.stat()
    me = os.geteuid()
    if place == path and facts.st_uid != me:
        text = f"{path} belongs to {_user(facts.st_uid)}, this is {_user(me)}"
        cure = f"run as {_user(facts.st_uid)}, or 'sudo chown -R {_user(me)} {path}', {_ELSEWHERE}"
        yield Found("error", _WHERE, text, cure)
    elif not os.access(place, _ALL):
        what = f"{path} cannot be written" if place == path else f"{path} cannot be made in {place}"
        # What is somebody else's is not for us to open: most of all not the root of all.
        cure = f"run 'chmod u+rwx {place}', {_ELSEWHERE}" if facts.st_uid == me else _OTHER
        yield Found("error", _WHERE, what, cure)
    elif place == path:
        yield from _private(path, facts.st_mode)
    else:
        yield from _made(path, place)


def _made(path: Path, place: Path) -> Iterator[Found]:
    """Make a folder beside where it would be and take it away again: rights do not say all, of /proc for instance."""
    probe = place / f".blocks-doctor-{os.getpid()}"
    try:
        probe.mkdir(mode=0o700)
        probe.rmdir()
    except OSError as error:
        yield Found("error", _WHERE, f"{path} cannot be made in {place} ({error.strerror or error})", _OTHER)


def _private(path: Path, mode: int) -> Iterator[Found]:
    if stat.S_IMODE(mode) & 0o022:
        yield Found("warning", _WHERE, f"others may write {path}", f"run 'chmod 700 {path}'")
    try:
        StateFolder(path).read_local_key()
    except ConfigurationError as error:
        yield of_error(_WHERE, error)


def _room(place: Path) -> Iterator[Found]:
    """Say when the disk is so full that a hub takes no new tasks, or can write nothing at all."""
    disk = disk_of(place)
    wanted = kept_free(disk)
    facts = os.statvfs(place)
    if facts.f_files and not facts.f_favail:
        yield Found("error", _WHERE, f"the disk of {place} can hold no further file", f"remove files, {_ELSEWHERE}")
    if disk.free < wanted:
        text = f"the disk of {place} is nearly full: {disk.free // _MB} MB free, a hub keeps {-(-wanted // _MB)} MB"
        yield Found("error", _WHERE, text, f"make room, {_ELSEWHERE}; until then new tasks are refused")


def _sound(path: Path) -> Found:
    if path.is_dir():
        return Found("note", _WHERE, f"{path} can be written, {disk_of(path).free // _MB} MB free")
    return Found("note", _WHERE, f"{path} is not there yet", "the first start makes it")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
