"""What is handed out: the wheel that is installed, and the source archive that one works with."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a clone has and the archive need not.
LEFT_OUT = {".ci"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True, timeout=110,
    )  # fmt: skip
    return folder


def kept() -> set[str]:
    """Return the files of a clone: what git keeps, or in an unpacked archive all that is there."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no clone: what belongs into the archive cannot be told")
    return {name for name in done.stdout.split("\n") if name and (ROOT / name).exists()}


def test_the_wheel_installs_the_package_only(built: Path) -> None:
    """[R-10] Every file of the package, its type marker and its schema, and nothing beside the package."""
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert names >= {name for name in kept() if name.startswith("blocks_worker/")}
    assert {name.partition("/")[0] for name in names} == {"blocks_worker"}
    assert {"blocks_worker/py.typed", "blocks_worker/registry.json"} <= names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_the_archive_holds_all_that_one_works_with(built: Path) -> None:
    """Tests, scripts, examples, pages and the guide for contributors: as in a clone."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = {member.name.partition("/")[2] for member in source.getmembers() if member.isfile()}

    missing = {name for name in kept() - names if name.partition("/")[0] not in LEFT_OUT}
    assert not missing
    assert {"CONTRIBUTING.md", "scripts/run", "scripts/docs_api.py", "examples/echo/README.md"} <= names
    with tarfile.open(archive) as source:
        (run,) = [member for member in source.getmembers() if member.name.endswith("/scripts/run")]
        assert run.mode & 0o100, "it can be run"
