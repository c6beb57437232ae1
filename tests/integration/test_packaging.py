"""What is handed out: the wheel that is installed, and the source archive that one works with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What users write, for type checkers only.
TYPED = ROOT / "tests/typing"
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


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment, which borrows what it requires, and return its programs' folder."""
    environment = tmp_path_factory.mktemp("environment")
    programs = environment / "bin"
    (wheel,) = built.glob("*.whl")
    for command in (
        ["venv", "--without-pip", str(environment)],
        ["pip", "--python", str(programs / "python"), "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-compile", str(wheel)],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=110)
    (packages,) = environment.glob("lib/*/site-packages")
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return programs


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


def test_the_archive_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """Whoever builds from the archive installs what everybody else does, byte by byte."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        # The filter came with 3.10.12 and 3.11.4; from 3.14 on it is the default, between them its want is a warning.
        source.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # noqa: S202 - our own archive
    (folder,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=folder, check=True, capture_output=True, timeout=110,
    )  # fmt: skip

    (first,), (second,) = built.glob("*.whl"), tmp_path.glob("*.whl")
    assert first.name == second.name
    assert contents(first) == contents(second)


def contents(wheel: Path) -> dict[str, int]:
    """Return the checksums of a wheel's files by their names."""
    return {info.filename: info.CRC for info in zipfile.ZipFile(wheel).infolist()}


#: A task from end to end with all parts in one process, and where its package is.
WHOLE = """
import blocks_worker
from blocks_worker.testing import LocalStack

with LocalStack(lambda task: task.text().upper()) as stack:
    print(stack.run("agent", "hello").text, blocks_worker.__file__)
"""


def test_the_installed_package_runs(installed: Path, tmp_path: Path) -> None:
    """Outside a clone, in an empty home: a task ends, a new project is written and found to be right. [R-10]"""
    environment = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path / "home")}

    def said(*command: str, folder: Path = tmp_path) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    text, _, place = said("python", "-c", WHOLE).strip().partition(" ")
    said("blocks", "init", "hello")

    assert text == "HELLO"
    assert Path(place).is_relative_to(installed.parent)
    assert "[agent] hello: checked, 1 slot" in said("blocks-run", "--check", folder=tmp_path / "hello")
    assert said("blocks-hub", "--version").startswith("blocks-hub, version ")


def test_a_users_files_are_checked_by_mypy(installed: Path) -> None:
    """`mypy --strict` knows the type of every public call, and finds each mistake, and only that. [R-65]"""
    # Outside this project: its settings are not the user's. The cache is not the project's own.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(ROOT / ".mypy_cache/users"),
         "--python-executable", str(installed / "python"), "--no-error-summary", "right.py", "wrong.py"],
        cwd=TYPED, capture_output=True, text=True, timeout=230, check=False,
    )  # fmt: skip
    found = re.findall(r"^(\w+\.py):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)

    lines = (TYPED / "wrong.py").read_text().splitlines()
    expected = {
        ("wrong.py", str(number), code)
        for number, line in enumerate(lines, start=1)
        for code in line.partition("# mypy: ")[2].split(", ")
        if code
    }
    assert set(found) == expected, done.stdout + done.stderr


def test_a_users_files_are_sound_for_pyright(installed: Path) -> None:
    """What mypy finds right, pyright finds right too, where it is installed: it is too large to be asked for. [R-65]"""
    program = shutil.which("pyright") or shutil.which("basedpyright")
    if program is None:
        pytest.skip("there is no pyright here; 'pip install pyright' brings it")
    command = [program, "--level", "error", "--pythonpath", str(installed / "python"), "right.py"]
    done = subprocess.run(command, cwd=TYPED, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
