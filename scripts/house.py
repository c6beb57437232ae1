"""Check the house rules: who may reach outside, and which file is the door of a foreign library.

The two tables stand in pyproject.toml under [tool.house]. A clock, a random number, a thread, a socket
or a file is asked for in the files named there and handed to everybody else, so that a test can hand
over another one.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blocks_worker"
#: A file above this is a sign of two ideas; a reason in its docstring ("Long because ...") lets it pass.
LINES = 400


def owned(place: str, owners: list[str]) -> bool:
    """Tell whether the file is one of the owners; an owner that ends in a slash is a folder."""
    return any(place == owner or (owner.endswith("/") and place.startswith(owner)) for owner in owners)


def dotted(node: ast.expr) -> str:
    """Return the dotted name that an expression spells, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each imported dotted name with its line; names for annotations only do not count."""
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and dotted(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each dotted name that the code speaks, and each builtin that it calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, dotted(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def begins(name: str, rule: str) -> bool:
    """Tell whether a dotted name is the rule's or lies below it."""
    return name == rule or name.startswith(f"{rule}.")


def findings(path: Path, calls: dict[str, list[str]], libraries: dict[str, list[str]]) -> Iterator[str]:
    """Yield one line for each rule that the file breaks."""
    place = path.relative_to(PACKAGE).as_posix()
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    doc = ast.get_docstring(tree)
    if not doc:
        yield f"{place}:1 no docstring: the first line says the one idea of the file"
    if text.count("\n") > LINES and "Long because" not in (doc or ""):
        yield f"{place}:1 over {LINES} lines: split it, or say in its docstring 'Long because ...'"
    names = list(imported(tree))
    for line, name in names:
        for library, doors in libraries.items():
            if begins(name, library) and not owned(place, doors):
                yield f"{place}:{line} imports {library}, whose door is {' or '.join(doors)}"
    for line, name in {*names, *used(tree)}:
        for call, owners in calls.items():
            if begins(name, call) and not owned(place, owners):
                owner = " or ".join(owners) or "nobody"
                yield f"{place}:{line} {name} belongs to {owner}: take it from a constructor"


def main() -> int:
    """Print every finding; exit 1 when there is one."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        house = tomllib.load(file)["tool"]["house"]
    found = [
        finding
        for path in sorted(PACKAGE.rglob("*.py"))
        for finding in findings(path, house["calls"], house["libraries"])
    ]
    print("\n".join(sorted(found)) or "house rules kept")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
