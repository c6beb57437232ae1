"""A small file system under a folder, where this user may mount one, and a way to fill it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIB = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[str]:
    """Mount a file system of so many bytes there for the block; give why it cannot be done, or nothing."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        missing = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        missing = str(error)
    try:
        yield missing
    finally:
        if not missing:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk until only so many bytes are free; return what fills it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free) > leave:
            file.write(bytes(_MIB if free - leave > _MIB else 4096))
    return filler
