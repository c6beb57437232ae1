"""The worker's counters and the metrics that tell them."""

from __future__ import annotations

import ast
from pathlib import Path

import blocks_worker.worker
from blocks_worker.observability.families import WORKER
from blocks_worker.worker.insight import labels_of

FOLDER = Path(blocks_worker.worker.__file__).parent


def counted() -> set[str]:
    """Return the names under which the worker counts; what is put in at run time is an x."""
    names: set[str] = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("counters.count"):
                names |= _names(node.args[0])
    return names


def _names(node: ast.expr) -> set[str]:
    if isinstance(node, ast.IfExp):
        return _names(node.body) | _names(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return {"".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)}
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return {node.value}


def test_whatever_is_counted_is_told() -> None:
    """Every counter of the worker has a family with the labels that it needs. [R-54]"""
    families = {family.name: family for family in WORKER}
    names = counted()

    assert len(names) > 15
    for name in names:
        labels = labels_of(name)
        assert labels is not None, f"{name} has no family"
        assert len(families[f"blocks_worker_{labels[0]}_total"].labels) == 1 + len(labels), name
