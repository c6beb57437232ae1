"""What Python files say of themselves, read without importing them; and how a table is written."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blocks_worker"


class SourceError(Exception):
    """Say what the code, a test or a page has to say before the pages can be written."""


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def files(folder: Path) -> list[Path]:
    """Return the Python files below a folder, always in the same order."""
    return sorted(folder.rglob("*.py"))


def remark(path: Path, name: str) -> str:
    """Return the `#:` comment above a name, which has to be there.

    Raises:
        SourceError: it is not.
    """
    try:
        return remarks(path)[name]
    except KeyError:
        raise SourceError(f"{path.relative_to(ROOT)}: write above {name} what it means, behind '#:'") from None


@cache
def remarks(path: Path) -> dict[str, str]:
    """Return what stands in `#:` comments above the names of a file; a member is called `Class.member`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: text for name, line in _named(tree_of(path).body, "") if (text := _above(lines, line))}


def _named(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, int]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _named(node.body, f"{prefix}{node.name}.")
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from ((prefix + target.id, node.lineno) for target in targets if isinstance(target, ast.Name))


def _above(lines: Sequence[str], line: int) -> str:
    said: list[str] = []
    for text in map(str.strip, reversed(lines[: line - 1])):
        if not text.startswith("#:"):
            break
        said.insert(0, text[2:].strip())
    return " ".join(said)


def summary(docstring: str | None) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((docstring or "").split("\n\n")[0].split())


def labelled(docstring: str | None, label: str) -> str:
    """Return what a docstring says behind `label:`, with the lines that are indented below it."""
    found = re.search(rf"^{label}: (.*(?:\n[ \t]+\S.*)*)", docstring or "", re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [_line(head), "|---" * len(head) + "|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Iterable[object]) -> str:
    said = [str(cell).replace("|", "\\|") for cell in cells]
    return "|" + "".join(f" {text} |" if text else " |" for text in said)


def code(text: object) -> str:
    """Return the text as code."""
    return f"`{text}`"
