"""The lock of the libraries, and what is said of them: the scripts, on trees of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("scripts/audit.py", "scripts/lock_check.py", "constraints.txt", "constraints-dev.txt", "pyproject.toml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy what the scripts look at."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv").mkdir()
    return tmp_path


def run(tree: Path, script: str, *arguments: str) -> tuple[int, str]:
    """Run a script; return its code and what it printed."""
    environment = {"PATH": f"{tree / 'bin'}:/usr/bin:/bin", "BLOCKS_VENV": str(tree / ".venv")}
    command = [sys.executable, str(tree / "scripts" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)
    return done.returncode, done.stdout + done.stderr


def auditor(tree: Path, *libraries: dict[str, object], says: str | None = None) -> None:
    """Put a pip-audit in the way that says this, and counts how often it was asked."""
    told = json.dumps({"dependencies": libraries, "fixes": []}) if says is None else says
    (tree / "told").write_text(told)
    tool = tree / "bin" / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho asked >>{tree}/asked\ncat {tree}/told\n")
    tool.chmod(0o755)


def test_the_lock_names_each_library_by_version_and_hash(tree: Path) -> None:
    """The lock fits pyproject.toml; a bound that changed, a pin or a hash that is gone is told with what to do."""
    assert run(tree, "lock_check.py") == (0, "the lock fits\n")
    project, lock = tree / "pyproject.toml", tree / "constraints.txt"
    project.write_text(project.read_text().replace('"click>=8.1"', '"click>=99"'))
    text = lock.read_text()
    hashes = text.index("click==")
    lock.write_text(text[: text.index("\n", hashes)].rstrip("\\ ") + "\nrich>=13\n")
    code, said = run(tree, "lock_check.py")

    assert code == 1
    assert "click has no hash" in said
    assert "click>=99 is not what it has" in said
    assert "run ./scripts/lock" in said
    assert "'rich>=13' names no version" in said


def test_an_advisory_is_an_error_and_is_asked_for_once_a_day(tree: Path) -> None:
    """What was found is told by library and id, also by the next run, which asks nobody."""
    auditor(
        tree,
        {"name": "good", "version": "1", "vulns": []},
        {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1"}]},
        {"name": "unknown", "version": "3", "skip_reason": "not found"},
    )
    run(tree, "audit.py", "--ask")
    first, second = run(tree, "audit.py"), run(tree, "audit.py", "--start")

    assert first == (1, "advisory: bad 2: PYSEC-1\naudit: 2 libraries, 1 advisories\n")
    assert second == (0, "")
    assert (tree / "asked").read_text() == "asked\n"


@pytest.mark.parametrize(
    "says", ["no network", '{"dependencies": [{"name": "a", "version": "1", "skip_reason": "x"}]}']
)
def test_without_a_source_nothing_fails(tree: Path, says: str) -> None:
    """Offline, or where the index has no advisories, the word is that it was skipped, never that all is well."""
    auditor(tree, says=says)
    run(tree, "audit.py", "--ask")

    assert run(tree, "audit.py") == (0, "audit skipped: offline\n")


def test_another_lock_is_asked_for_anew(tree: Path) -> None:
    """A verdict is of one lock: what is changed was not looked at."""
    auditor(tree, {"name": "good", "version": "1", "vulns": []})
    for _ in range(2):
        run(tree, "audit.py", "--ask")
        assert run(tree, "audit.py") == (0, "audit: 1 libraries, no advisories\n")
        with (tree / "constraints-dev.txt").open("a") as lock:
            lock.write("# changed\n")

    assert (tree / "asked").read_text() == "asked\n" * 2
