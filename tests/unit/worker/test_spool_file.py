"""A spool file: whole lines, and a lock that tells whether its writer lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from blocks_worker.worker.spool_file import SpoolFile, left_behind

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_in_use_is_nobody_elses(tmp_path: Path) -> None:
    """As long as its writer lives no other reads it; then all its lines are there."""
    path = tmp_path / "a.spool"
    file = SpoolFile(path)
    file.append([b"one", b"two"])
    with left_behind(path) as lines:
        assert lines is None
    file.close()

    with left_behind(path) as lines:
        assert lines == [b"one", b"two"]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """What was being written when the machine fell is no record."""
    path = tmp_path / "a.spool"
    path.write_bytes(b"one\ntw")

    with left_behind(path) as lines:
        assert lines == [b"one"]


def test_an_empty_file_goes_with_its_writer(tmp_path: Path) -> None:
    """Nothing is left of a file whose records were forgotten."""
    file = SpoolFile(tmp_path / "a.spool")
    file.append([b"one"])
    file.clear()
    file.close()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_is_nothing(tmp_path: Path) -> None:
    """Another replayed and removed it."""
    with left_behind(tmp_path / "a.spool") as lines:
        assert lines is None


def test_a_write_that_does_not_fit_leaves_no_half_line(tmp_path: Path) -> None:
    """A file system that takes a part of a batch keeps nothing of it, and what was there stands. [E3]"""
    script = """
import resource, signal, sys
from pathlib import Path
from blocks_worker.worker.spool_file import SpoolFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = SpoolFile(Path(sys.argv[1]))
file.append([b"first"])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    file.append([b"x" * 5000])
except OSError:
    file.append([b"second"])
"""
    path = tmp_path / "a.spool"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=100)

    assert path.read_bytes() == b"first\nsecond\n"


def test_a_killed_writer_leaves_its_lines(tmp_path: Path) -> None:
    """Kill -9 right after `append` returned loses nothing, and the lock is free."""
    script = """
import os, signal, sys
from pathlib import Path
from blocks_worker.worker.spool_file import SpoolFile
SpoolFile(Path(sys.argv[1])).append([b"one"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "a.spool"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=100)

    assert done.returncode == -signal.SIGKILL
    with left_behind(path) as lines:
        assert lines == [b"one"]
