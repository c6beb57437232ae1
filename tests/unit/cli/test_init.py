"""`blocks init`: names, folders, what is written and what is left as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from blocks_worker import __version__
from blocks_worker.cli.main import blocks
from blocks_worker.cli.scaffold import project_files
from blocks_worker.handlers.loader import resolve_card
from blocks_worker.protocol.cards import check_card

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> Result:
    """Run `blocks init`."""
    return CliRunner().invoke(blocks, ["init", *arguments])


@pytest.mark.parametrize(
    "name", ["my agent", "a.b", "class", "x" * 65, "1st", "-x", "x-", "_x", "ä", "Blocks-Worker", "a/b.c", "..."]
)
def test_a_name_that_cannot_be_one_is_refused(name: str, here: Path) -> None:
    """The line says the rule, and nothing is written."""
    done = init("--", name)

    assert done.exit_code == 1
    assert done.stderr.startswith("blocks: '")
    assert "choose another" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(here.rglob("*")) == []


@pytest.mark.parametrize("name", ["a", "hello", "my-agent", "Agent_2", "x" * 64, "deep/down/hello"])
def test_a_project_is_its_name(name: str, here: Path) -> None:
    """Folder, project and card have it; the agent has "_" for "-", as an agent's name must."""
    done = init(name)
    folder = here / name

    assert done.exit_code == 0, done.stderr
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == folder.name
    assert project["dependencies"] == [f"blocks_worker>={__version__}"]
    assert set(project["optional-dependencies"]) == {"test"}
    assert resolve_card(folder / "agent-card.json").agent_name == folder.name.replace("-", "_")
    assert f"cd {name} && " in done.stdout


def test_the_card_is_valid() -> None:
    """There is nothing to say of it, not even a warning."""
    card = json.loads(project_files("my-agent", consumer_only=False, python="python", source=".")["agent-card.json"])

    found = check_card(card)

    assert (list(found.errors), list(found.warnings)) == ([], [])


def test_the_folder_may_be_this_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point takes the working folder and its name; what git or venv made beforehand does not count."""
    (here / "greeter").mkdir()
    monkeypatch.chdir(here / "greeter")
    for name in (".git", ".venv"):
        Path(name).mkdir()

    done = init(".")

    assert done.exit_code == 0, done.stderr
    assert "wrote handler.py\n" in done.stdout
    assert "cd " not in done.stdout


def test_a_folder_with_something_in_it_is_left_alone(here: Path) -> None:
    """It is refused without --force; with it only what is missing is written, and what stays is named."""
    (here / "hello").mkdir()
    (here / "hello/handler.py").write_text("mine\n")

    refused = init("hello")
    before = sorted(path.name for path in (here / "hello").iterdir())
    forced = init("--force", "hello")
    again = init("--force", "hello")

    assert refused.exit_code == 1
    assert "hello is not empty (handler.py)" in refused.stderr
    assert before == ["handler.py"]
    assert (here / "hello/handler.py").read_text() == "mine\n"
    assert "kept hello/handler.py, which was there" in forced.stdout
    assert (here / "hello/agent-card.json").is_file()
    assert "wrote" not in again.stdout


def test_a_place_that_cannot_be_written_is_told(here: Path) -> None:
    """A file in the way, of the folder or above it, is one line with what to do."""
    (here / "taken").write_text("")

    assert "taken is a file; choose another name" in init("taken").stderr
    assert "taken/hello cannot be written: Not a directory; choose another place" in init("taken/hello").stderr


def test_an_empty_name_is_none(here: Path) -> None:
    """A script's variable that is not set makes no project of the working folder."""
    done = init("")

    assert (done.exit_code, "the name is empty" in done.stderr) == (1, True)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("tests", "file"), ("tests", "link"), ("handler.py", "link"), ("agent-card.json", "folder")]
)
def test_what_is_in_the_way_is_told_before_anything_is_written(name: str, kind: str, here: Path) -> None:
    """A file in place of a folder, the other way round, or a link to nothing leaves no half of a project."""
    (here / "hello").mkdir()
    place = here / "hello" / name
    if kind == "link":
        place.symlink_to(here / "nowhere")
    elif kind == "folder":
        place.mkdir()
    else:
        place.write_text("")

    done = init("--force", "hello")

    assert (done.exit_code, f"hello/{name} is in the way" in done.stderr) == (1, True), done.output
    assert list((here / "hello").iterdir()) == [place]


def test_a_consumers_project_has_no_agent(here: Path) -> None:
    """It asks the built-in echo, and its commands serve that."""
    done = init("--consumer", "asks")

    assert {path.relative_to(here / "asks").as_posix() for path in (here / "asks").rglob("*") if path.is_file()} == {
        ".env", ".gitignore", "README.md", "consumer.py", "pyproject.toml", "tests/test_consumer.py",
    }  # fmt: skip
    assert re.search(r"cd asks && \S*blocks run --handler echo$", done.stdout, re.MULTILINE)
    assert 'AGENT = "echo"' in (here / "asks/consumer.py").read_text()


@pytest.mark.parametrize("consumer_only", [False, True])
def test_nothing_is_left_to_fill_in(*, consumer_only: bool) -> None:
    """Each file is named in the README or is one that tools read, and no setting is set."""
    files = project_files("my-agent", consumer_only=consumer_only, python="python", source=".")

    assert not [path for path, text in files.items() if re.search(r"@[a-z]+@", text)]
    assert not [line for line in files[".env"].splitlines() if line and not line.startswith("#")]
    assert {"consumer.py", "tests/", ".env"} <= set(re.findall(r"^\| `([^`]+)`", files["README.md"], re.MULTILINE))


def test_the_commands_are_those_of_this_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the shell would not find, or find elsewhere, is written with its place."""
    del here
    monkeypatch.setenv("PATH", os.defpath)

    assert re.search(r"cd hello && /\S+/blocks run\n.*\n  cd hello && /\S+/python consumer.py", init("hello").stdout)


@pytest.mark.parametrize("arguments", [["hello"], ["--consumer", "hello"]])
def test_the_readme_installs_the_package_from_where_it_is(here: Path, arguments: list[str]) -> None:
    """No command has an index asked for the package by its name: it may be nobody's there, or somebody else's."""
    init(*arguments)
    found = re.findall(r"^pip install (.*)$", (here / "hello/README.md").read_text(), re.MULTILINE)

    (source,) = shlex.split(found[0])
    assert Path(source).exists()
    assert found[1:] == ["'.[test]'"]


def test_the_image_takes_the_package_from_its_folder() -> None:
    """The wheel is named as a file: an index is not asked for it, and the first line says how to make it."""
    image = project_files("my-agent", consumer_only=False, python="python", source="/src")["Dockerfile"]

    assert image.startswith("# pip wheel --no-deps -w wheels /src\n")
    assert "wheels/blocks_worker-*.whl ." in image
