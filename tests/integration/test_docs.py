"""The maintainers' pages against the code: what they name is there, what they repeat is written by `scripts/docs`."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "blocks_worker"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PLACES = (ROOT, PACKAGE, ROOT / "tests")
THREADS = ROOT / "docs/threads.md"

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`([^`\n]+)`")
_LINKED = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_PATH = re.compile(r"[\w./@-]+\Z")
_SUFFIXES = (".py", ".md", ".toml", ".service")
_MAKERS = {"ServiceThread", "Periodic", "ThreadPoolExecutor"}
#: What the list says of a thread that is a daemon, that is none, and of which the owner decides.
_DAEMON = {True: "yes", False: "no", None: "worker"}


def cells(page: Path) -> Iterator[list[str]]:
    """Yield the cells of each row of each table of a page."""
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def mentioned(page: Path) -> set[str]:
    """Return the paths which a page mentions that look like files or folders of this repository."""
    text = _FENCED.sub("", page.read_text())
    words = {word.partition(":")[0].removeprefix("./") for word in _QUOTED.findall(text)}
    tops = {path.name for folder in (ROOT, PACKAGE) for path in folder.iterdir() if path.is_dir()}
    return {
        word
        for word in words
        if _PATH.match(word) and (word.endswith(_SUFFIXES) or ("/" in word and word.partition("/")[0] in tops))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_mentions_is_there(page: Path) -> None:
    """A path stands below the root or, on a maintainers' page, below the package or the tests."""
    missing = {path for path in mentioned(page) if not any((place / path).exists() for place in PLACES)}

    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_leads_somewhere(page: Path) -> None:
    """A relative link names a file."""
    assert not {link for link in _LINKED.findall(page.read_text()) if not (page.parent / link).exists()}


def threads_made() -> dict[str, tuple[str, str]]:
    """Return the beginnings of the names of all threads, with the file that makes them and what is said of a daemon."""
    made: dict[str, tuple[str, str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _MAKERS:
                name = beginning(given(node, "thread_name_prefix") or node.args[0], tree)
                if name:
                    made[name.removesuffix("-")] = path.relative_to(PACKAGE).as_posix(), _DAEMON[daemon(node)]
    return made


def given(call: ast.Call, name: str) -> ast.expr | None:
    """Return a keyword argument of a call."""
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def beginning(name: ast.expr, tree: ast.Module) -> str:
    """Return what a thread's name begins with; of one that the owner is told, its default."""
    first = name.values[0] if isinstance(name, ast.JoinedStr) else name
    if isinstance(first, ast.Constant):
        return str(first.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
                if argument.arg == "name" and isinstance(default, ast.Constant):
                    return str(default.value)
    return ""


def daemon(call: ast.Call) -> bool | None:
    """Return whether a call makes a daemon."""
    said = given(call, "daemon") or ast.Constant(value=False)
    return bool(said.value) if isinstance(said, ast.Constant) else None


def test_every_thread_is_listed() -> None:
    """The list has a row for each thread of the package, with its owner and whether it is a daemon, and no other."""
    listed = {
        _QUOTED.findall(row[0])[0].removesuffix("N").removesuffix("-"): (row[1].strip("`"), row[2].partition(":")[0])
        for row in cells(THREADS)
        if len(row) == 4 and row[0].startswith("`") and "MainThread" not in row[0]
    }

    assert listed == threads_made()


def test_every_body_is_in_the_reference() -> None:
    """Each module of the protocol that defines what travels has its table."""
    page = (ROOT / "docs/reference.md").read_text()
    modules = {path.stem for path in (PACKAGE / "protocol").glob("*.py") if "(Wire" in path.read_text()}

    assert not {name for name in modules if f"<!-- generated: messages-{name} -->" not in page}
