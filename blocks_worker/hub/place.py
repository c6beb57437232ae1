"""Where a ledger may lie: on a disk of this machine, whose locks and shared memory all of its processes see."""

from __future__ import annotations

import re
from pathlib import Path

from blocks_worker.errors import ConfigurationError

#: File systems of other machines: a lock there may be unknown here, and SQLite's log needs memory that is shared.
REMOTE = frozenset(
    {"afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"},
)
_MOUNTS = Path("/proc/self/mountinfo")


def check_local(folder: Path) -> None:
    """Refuse a folder on another machine's disk; where nobody can tell, nothing is refused.

    Raises:
        ConfigurationError: two hubs could write one ledger there, and spoil it.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    refuse_remote(folder.resolve(), mounts)


def refuse_remote(folder: Path, mounts: str) -> None:
    """Refuse a folder that is on another machine's disk by what the kernel says of its mounts.

    Raises:
        ConfigurationError: it is.
    """
    kind = file_system_of(folder, mounts)
    if kind in REMOTE:
        raise ConfigurationError(
            f"the state folder {folder} is on a network file system ({kind}), where a ledger cannot be locked safely; "
            "name a folder of a local disk with --state-dir or BLOCKS_STATE_DIR"
        )


def file_system_of(folder: Path, mounts: str) -> str:
    """Return the kind of file system that a folder is on; nothing when the mounts do not say it."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        place, _, rest = line.partition(" - ")
        fields = place.split(" ")
        if len(fields) < 5 or not rest:  # noqa: PLR2004 - id, parent, device, root, mount point
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4]))
        # Of two at one place the later one covers the earlier.
        if (folder == point or point in folder.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind
