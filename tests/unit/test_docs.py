"""The maintainers' pages against the code: what they name is there, and what they count is so."""

from __future__ import annotations

import ast
import importlib
import re
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from blocks_worker.protocol.leases import Numbers
from blocks_worker.protocol.lifecycle import INSTANCE_RULES, SHOWN, TASK_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "blocks_worker"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PROTOCOL, THREADS = ROOT / "docs/protocol.md", ROOT / "docs/threads.md"

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`([^`\n]+)`")
_LINKED = re.compile(r"\]\(([^)#:]+)\)")
_PATH = re.compile(r"[\w./@-]+\Z")
_SUFFIXES = (".py", ".md", ".toml", ".service")
_CONSTANT = re.compile(r"`([\w/]+\.py):([\w.]+)`")
_MAKERS = {"ServiceThread", "Periodic", "ThreadPoolExecutor"}
#: What the list says of a thread that is a daemon, that is none, and of which the owner decides.
_DAEMON = {True: "yes", False: "no", None: "worker"}
_UNITS = {"": 1, "bytes": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400, "KiB": 1024, "MiB": 1024**2}


def cells(page: Path) -> Iterator[list[str]]:
    """Yield the cells of each row of each table of a page."""
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def number(text: str) -> float:
    """Return what a cell says, in seconds, bytes or plain."""
    value, _, unit = text.replace("\N{MINUS SIGN}", "-").partition(" ")
    return float(value or 0) * _UNITS[unit]


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
    """A path stands below the root or, on a maintainers' page, below the package."""
    missing = {path for path in mentioned(page) if not ((ROOT / path).exists() or (PACKAGE / path).exists())}

    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_leads_somewhere(page: Path) -> None:
    """A relative link names a file."""
    assert not {link for link in _LINKED.findall(page.read_text()) if not (page.parent / link).exists()}


def threads_made() -> dict[str, bool | None]:
    """Return the beginnings of the names of all threads, and whether they are daemons; None: it depends."""
    made: dict[str, bool | None] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _MAKERS:
                name = beginning(given(node, "thread_name_prefix") or node.args[0], tree)
                if name:
                    made[name.removesuffix("-")] = daemon(node)
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
    """The list has a row for each thread that the package makes, which says whether it is a daemon, and no other."""
    listed = {
        _QUOTED.findall(row[0])[0].removesuffix("N").removesuffix("-"): row[2].partition(":")[0]
        for row in cells(THREADS)
        if len(row) == 4 and row[0].startswith("`") and "MainThread" not in row[0]
    }

    assert listed == {name: _DAEMON[is_daemon] for name, is_daemon in threads_made().items()}


def test_the_turns_of_a_task_are_those_of_the_table() -> None:
    """Each state and turn stands with its next state and what it does to the numbers, and no other."""
    expected = {
        (state.value, turn.value, rule.to.value, rule.epoch, rule.attempt, rule.lost)
        for (state, turn), rule in TASK_RULES.items()
    }
    written = {
        (row[0], row[1], row[2], number(row[3]), number(row[4]), number(row[5]))
        for row in cells(PROTOCOL)
        if len(row) == 7 and row[0].isupper()
    }

    assert written == expected


def test_the_turns_of_an_instance_are_those_of_the_table() -> None:
    """Each state and turn stands with its next state, and no other."""
    expected = {(state.value, turn.value, to.value) for (state, turn), to in INSTANCE_RULES.items()}
    states = {state for state, _, _ in expected}

    assert {tuple(row[:3]) for row in cells(PROTOCOL) if len(row) == 4 and row[0] in states} == expected


def test_consumers_see_what_the_page_says() -> None:
    """Each state stands with the word that consumers see."""
    written = {row[0]: row[1].strip("`") for row in cells(PROTOCOL) if len(row) == 3 and row[0].isupper()}

    assert written == {state.value: shown for state, shown in SHOWN.items()}


def test_the_numbers_are_the_defaults() -> None:
    """The table of the hub's numbers is the struct that travels."""
    fields = {field.name: field.default for field in msgspec.structs.fields(Numbers)}

    written = {row[0].strip("`"): number(row[1]) for row in cells(PROTOCOL) if row[0].strip("`") in fields}

    assert written == fields


def test_every_constant_has_the_value_that_a_page_says() -> None:
    """A row that names a constant as `file.py:NAME` tells its value, with its unit, beside it."""
    found = 0
    for row in (row for page in (PROTOCOL, THREADS) for row in cells(page)):
        for path, name in _CONSTANT.findall(row[0]):
            module: Any = importlib.import_module("blocks_worker." + path.removesuffix(".py").replace("/", "."))
            value = reduce(getattr, name.split("."), module)
            said = number(row[1]) * (1000 if name.endswith("_MS") else 1)
            assert said == value, f"{path}:{name}"
            found += 1

    assert found > 60
