"""A new project: its name, its files, and how they are written without touching what is there."""

from __future__ import annotations

import json
import keyword
import os
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from blocks_worker import __version__
from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Each file of a project, and the template that it is made of.
_SHARED = {
    ".env": "env",
    ".gitignore": "gitignore",
    "consumer.py": "consumer.py",
    "pyproject.toml": "project.toml",
}
_AGENT = {
    **_SHARED,
    ".dockerignore": "dockerignore",
    "Dockerfile": "Dockerfile",
    "README.md": "agent-readme.md",
    "agent-card.json": "agent-card.json",
    "handler.py": "handler.py",
    "tests/test_handler.py": "test_handler.py",
}
_CONSUMER = {**_SHARED, "README.md": "consumer-readme.md", "tests/test_consumer.py": "test_consumer.py"}

#: The agent that a consumer without one of its own asks: a built-in one, so that it answers at once.
USUAL_AGENT = "echo"

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?\Z")
_RULE = (
    "a name begins with a letter, goes on with letters, digits, '_' and '-', ends with a letter or digit, "
    "has at most 64 characters and is no word of Python's"
)
#: What may be in a folder before there is a project.
_UNNOTICED = frozenset({".git", ".venv"})


@dataclass(frozen=True)
class Written:
    """What came of writing a project: paths below its folder.

    Attributes:
        kept: files that were there and stayed as they were.
    """

    new: list[str]
    kept: list[str]


def check_name(name: str) -> str:
    """Return the name of a project.

    Raises:
        ConfigurationError: it cannot be the name of one; the text says the rule.
    """
    if not _NAME.match(name) or keyword.iskeyword(name):
        raise ConfigurationError(f"{name[:80]!r} cannot be a project's name: {_RULE}; choose another")
    if re.sub("[-_]+", "-", name.lower()) == "blocks-worker":
        raise ConfigurationError(f"{name!r} is the name of the package that the project needs; choose another")
    return name


def project_files(name: str, *, consumer_only: bool, python: str, source: str) -> dict[str, str]:
    """Return the texts of a project's files by their paths below its folder, sorted.

    `python` is how the Python of this environment is typed, `source` what pip installs this package from.
    """
    filled = {
        "@project@": name,
        "@agent@": USUAL_AGENT if consumer_only else name.replace("-", "_"),
        "@version@": __version__,
        "@python@": python,
        "@source@": source,
    }
    wanted = _CONSUMER if consumer_only else _AGENT
    return {path: _filled(template, filled) for path, template in sorted(wanted.items())}


def package_source() -> str:
    """Return what pip installs this package from once more, as it is typed: a folder, a wheel, an address.

    What came from an index is named with its release: the name alone may be somebody else's elsewhere.
    """
    try:
        url = json.loads(distribution("blocks_worker").read_text("direct_url.json") or "{}").get("url", "")
    except (PackageNotFoundError, ValueError):
        url = ""
    clone = Path(__file__).parents[2]
    place = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else clone
    if (url.startswith("file:") or (clone / "pyproject.toml").is_file()) and place.exists():
        return shlex.quote(str(place))
    return shlex.quote(url if url and not url.startswith("file:") else f"blocks_worker=={__version__}")


def write_project(folder: Path, files: Mapping[str, str], *, force: bool) -> Written:
    """Write the files below the folder; one that is there stays as it is.

    Raises:
        ConfigurationError: the folder is none, or holds something and `force` is not said, or something is in the way;
            nothing was written.
        OSError: it cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; choose another name, or move it away")
    if not force and folder.is_dir():
        _check_empty(folder)
    for path in files:
        _check_place(folder, path)
    new = [path for path in files if not (folder / path).exists()]
    for path in new:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:  # "x": what somebody else wrote meanwhile stays too
            file.write(files[path])
    return Written(new, [path for path in files if path not in new])


def _check_empty(folder: Path) -> None:
    there = sorted(path.name for path in folder.iterdir() if path.name not in _UNNOTICED)
    if there:
        some = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")  # noqa: PLR2004 - as many as are named
        raise ConfigurationError(
            f"{folder} is not empty ({some}); choose another name, or add --force, "
            "which writes what is missing and leaves files that are there as they are"
        )


def _check_place(folder: Path, path: str) -> None:
    """Refuse what is in the way of a file: half a project would be left."""
    target = folder / path
    above = [each for each in target.parents if folder in each.parents]
    wrong = next((each for each in above if os.path.lexists(each) and not each.is_dir()), None)
    if wrong is None and os.path.lexists(target) and not target.is_file():
        wrong = target
    if wrong is not None:
        raise ConfigurationError(f"{wrong} is in the way of {path}; move it away, and run this again")


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = (resources.files("blocks_worker.cli") / "templates" / template).read_text(encoding="utf-8")
    for marker, value in values.items():
        text = text.replace(marker, value)
    return text
