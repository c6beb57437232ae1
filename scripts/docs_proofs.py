"""Which tests prove what: the ids in their docstrings, read without importing them."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from docs_source import ROOT, files, summary, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TESTS = ROOT / "tests"

#: Ids, and places such as `2.5` or `2.2 check 7`, in any order.
_BRACKET = re.compile(r"\s*\[((?:(?:[A-Z]+-?\d+|\d+\.\d+(?: check \d+)?)(?:, ?)?)+)\]")


class Proof(NamedTuple):
    """One test, what it says that it promises, and the ids that it names."""

    node: str
    promise: str
    ids: tuple[str, ...]


@cache
def proofs(kind: str) -> tuple[Proof, ...]:
    """Return each test that names an id which the pattern `kind` finds, in the order of files and lines."""
    named = [path for path in files(TESTS) if _BRACKET.search(path.read_text(encoding="utf-8"))]
    return tuple(proof for path in named for proof in _proofs(path, tree_of(path).body, "", re.compile(kind)))


def _proofs(path: Path, body: list[ast.stmt], prefix: str, kind: re.Pattern[str]) -> Iterator[Proof]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _proofs(path, node.body, f"{prefix}{node.name}::", kind)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            said = ast.get_docstring(node) or ""
            ids = tuple(found for bracket in _BRACKET.findall(said) for found in kind.findall(bracket))
            if ids:
                yield Proof(f"{path.relative_to(TESTS).as_posix()}::{prefix}{node.name}", _promise(said), ids)


def _promise(docstring: str) -> str:
    """Return the sentence of a test without the ids."""
    return _BRACKET.sub("", f" {summary(docstring)}").strip()
