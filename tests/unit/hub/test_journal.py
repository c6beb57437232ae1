"""The journal: lines are added and stay, the file is its user's own, and it has a bound."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from blocks_worker.hub.journal import KEPT, Journal

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_lines_are_added_to_what_is_there(tmp_path: Path) -> None:
    """Another life of the process goes on where the last one ended, in a file that only its user reads."""
    path = tmp_path / "j.jsonl"
    Journal(path).add(["one", "two"])
    Journal(path).add(["three"])

    assert path.read_text(encoding="utf-8").splitlines() == ["one", "two", "three"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rights_that_were_widened_are_taken_back(tmp_path: Path) -> None:
    """What others may read is theirs no longer with the next line."""
    path = tmp_path / "j.jsonl"
    path.write_text("", encoding="utf-8")
    path.chmod(0o666)

    Journal(path).add(["one"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_file_is_put_aside_whole(tmp_path: Path) -> None:
    """No line is cut or lost before its file is the oldest, and no more files are kept than are said."""
    journal = Journal(tmp_path / "j", most_bytes=20)
    for number in range(39):
        journal.add([f"line {number:03}"])

    files = sorted(tmp_path.iterdir())
    kept = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert [path.name for path in files] == [f"j.{number}" for number in range(1, KEPT + 1)]
    assert sorted(kept) == [f"line {number:03}" for number in range(39 - len(kept), 39)]
    assert len(kept) == 3 * KEPT


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has the hub write into another file; the lines are counted, and the log tells it once. [K9]"""
    victim = tmp_path / "victim"
    victim.write_text("whole", encoding="utf-8")
    (tmp_path / "j").symlink_to(victim)
    journal = Journal(tmp_path / "j")

    journal.add(["one", "two"])
    journal.add(["three"])

    assert (victim.read_text(encoding="utf-8"), journal.lost) == ("whole", 3)
    assert [record.message for record in caplog.records] == ["journal_failed"]
