"""Rows about constants: the words are by hand, the number in the second cell is the code's.

A row begins with `file.py:NAME`, and its second cell says the number in a unit of the writer's choice:
`4 s`, `64 KiB`. To add a row, write any number with the unit that reads best.
"""

from __future__ import annotations

import ast
import operator
import re
from functools import cache
from typing import TYPE_CHECKING

from docs_source import PACKAGE, SourceError, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many bytes or seconds a unit is.
UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "s": 1, "min": 60, "h": 3600, "d": 86_400}

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_NAMES = re.compile(r"\|[^|]*`[\w/]+\.py:[\w.]+`")
_ROW = re.compile(
    r"^(?P<head>\|[^|]*`(?P<path>[\w/]+)\.py:(?P<name>[\w.]+)`[^|]*\| )(?P<number>[\d.,]+)(?P<unit>[^|]*?) \|"
)


@cache
def constant(path: str, name: str) -> float:
    """Return the constant `name` of a file below the package, without importing it: that would start up half of it."""
    body = tree_of(PACKAGE / f"{path}.py").body
    *classes, last = name.split(".")
    for each in classes:
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == each), [])
    for node in body:
        if isinstance(node, ast.Assign) and last in {getattr(target, "id", "") for target in node.targets}:
            return _worth(path, node.value)
        if isinstance(node, ast.AnnAssign) and node.value and getattr(node.target, "id", "") == last:
            return _worth(path, node.value)
        if isinstance(node, ast.ImportFrom) and last in {alias.name for alias in node.names}:
            return constant((node.module or "").removeprefix("blocks_worker.").replace(".", "/"), last)
    raise SourceError(f"{path}.py has no constant {name}")


def _worth(path: str, node: ast.expr) -> float:
    """Return what an expression of numbers and other constants is worth."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return constant(path, name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_worth(path, left), _worth(path, right))
    raise SourceError(f"{path}.py: {ast.unparse(node)} is not made of numbers")


def filled(text: str) -> str:
    """Return rows with the numbers as they are in the code.

    Raises:
        SourceError: a row names a constant, and no number stands beside it.
    """
    for line in text.splitlines():
        if _NAMES.match(line) and not _ROW.match(line):
            raise SourceError(f"write a number, and its unit, into the second cell of {line}")
    return "\n".join(_ROW.sub(_row, line) for line in text.strip().splitlines())


def _row(row: re.Match[str]) -> str:
    value = constant(row["path"], row["name"]) / (1000 if row["name"].endswith("_MS") else 1)
    return f"{row['head']}{plain(value / UNITS.get(row['unit'].strip(), 1))}{row['unit']} |"


def plain(number: float) -> str:
    """Return a number without a point that it does not need."""
    return f"{number:.10g}"


BLOCKS: dict[str, Callable[[str], str]] = {"values": filled}
