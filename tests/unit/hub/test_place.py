"""On which file systems a ledger may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.place import check_local, file_system_of, refuse_remote

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /home rw,relatime shared:2 - nfs4 files:/home rw,vers=4.2
41 40 0:36 / /home/ann/my\040disk rw - xfs /dev/sdb1 rw
42 22 0:37 / /mnt rw - tmpfs tmpfs rw
43 22 0:38 / /mnt rw master:3 - fuse.sshfs there:/ rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/blocks", "ext4"),
        ("/home/ann/.local/state", "nfs4"),
        ("/home/ann/my disk/blocks", "xfs"),
        ("/homeless", "ext4"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_the_nearest_mount_counts(folder: str, kind: str) -> None:
    """The longest mount point above a folder says what it is on, of two at one place the later one."""
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_another_machines_disk_is_refused() -> None:
    """A ledger there could be written by two hubs: the sentence names folder, kind and what to do. [E7]"""
    with pytest.raises(ConfigurationError, match=r"/home/ann is on a network file system \(nfs4\).*BLOCKS_STATE_DIR"):
        refuse_remote(Path("/home/ann"), MOUNTS)
    refuse_remote(Path("/var"), MOUNTS)
    refuse_remote(Path("/var"), "")


def test_the_disk_of_this_machine_is_taken(tmp_path: Path) -> None:
    """What the kernel really says is understood."""
    assert file_system_of(tmp_path.resolve(), Path("/proc/self/mountinfo").read_text())
    check_local(tmp_path)
