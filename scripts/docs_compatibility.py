"""What is promised to code that was written for the SDK, and which test keeps each promise.

The promises stand in compatibility.toml. A test names those that it keeps in its docstring, in brackets, and
is found without being imported.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from docs_proofs import TESTS, proofs
from docs_source import PACKAGE, ROOT, code, files, table, tree_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Ids in one docstring: a test that names more proves none of them well.
MOST_IDS = 3

_KIND = r"\b[RAD]-\d+"
_WORD = re.compile(r"[A-Za-z_]\w+")
_NOT_YET = "not yet"


@cache
def promises() -> dict[str, Any]:
    """Return what is promised."""
    return tomllib.loads((ROOT / "scripts/compatibility.toml").read_text(encoding="utf-8"))


def wrong_ids() -> list[str]:
    """Return a line for each test that names an id which nobody promised, or too many."""
    known = {each for group in ("requirements", "acceptance", "differences") for each in promises()[group]}
    return [
        f"{proof.node}: {why}"
        for proof in proofs(_KIND)
        for why in (
            [f"nothing is promised as {each}" for each in proof.ids if each not in known]
            + [f"{len(proof.ids)} ids; {MOST_IDS} at most"] * (len(proof.ids) > MOST_IDS)
        )
    ]


def kept(group: str) -> str:
    """Return the promises of one group, each with the tests that keep it."""
    rows: list[tuple[str, str, str, str]] = []
    for each, wording in promises()[group].items():
        found = [proof for proof in proofs(_KIND) if each in proof.ids]
        first, *others = [(proof.promise, code(proof.node)) for proof in found] or [(_NOT_YET, "")]
        rows += [(each, wording, *first), *(("", "", *other) for other in others)]
    return table(("id", "promised", "a test says", "test"), rows)


def names() -> str:
    """Return each public name, where it is imported from, and a test file that speaks of it."""
    wanted = promises()["names"]
    offered = {module: _exported(module) for module in _modules(wanted)}
    everything = {
        *(name for names in wanted.values() for name in names),
        *(name for names in offered.values() for name in names),
    }
    rows = []
    for name in sorted(everything, key=lambda each: (each.lower(), each)):
        promised = [module for module in offered if name in wanted.get(module, ())]
        there = [module for module in offered if name in offered[module]]
        missing = [module for module in promised if module not in there]
        spoken = _mentioned(name) if there else ""
        rows.append((code(name), "" if promised else "ours", _said(there), _said(missing), spoken))
    return table(("name", "", "imported from", "not yet from", "spoken of in"), rows)


def _said(modules: list[str]) -> str:
    """Return modules as a list; those below the package without its name."""
    return ", ".join(code(module.removeprefix("blocks_worker") or module) for module in modules)


def _modules(wanted: dict[str, list[str]]) -> list[str]:
    """Return the modules of users' imports: the package, the promised ones, and whatever only passes names on."""
    thin = {f"blocks_worker.{path.stem}" for path in PACKAGE.glob("[!_]*.py") if _is_thin(path)}
    return ["blocks_worker", *sorted((thin | set(wanted)) - {"blocks_worker"})]


def _is_thin(path: Path) -> bool:
    """Tell whether a module says nothing of its own."""
    kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
    return bool(_listed(path)) and all(isinstance(node, kinds) for node in tree_of(path).body)


def _exported(module: str) -> set[str]:
    name = module.removeprefix("blocks_worker").lstrip(".")
    path = PACKAGE / (f"{name}.py" if name else "__init__.py")
    if not path.exists():
        return set()
    return {each for each in _listed(path) if not each.startswith("_")}


def _listed(path: Path) -> set[str]:
    """Return what `__all__` of a file lists."""
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _mentioned(name: str) -> str:
    """Return the first test file by its path that says a name; unit tests, which know the insides, come last."""
    return next((code(path) for path, spoken in _spoken().items() if name in spoken), _NOT_YET)


@cache
def _spoken() -> dict[str, set[str]]:
    """Return the words that each test file says."""
    return {
        path.relative_to(TESTS).as_posix(): set(_WORD.findall(path.read_text(encoding="utf-8")))
        for path in files(TESTS)
        if path.name.startswith("test_")
    }


BLOCKS: dict[str, Callable[[str], str]] = {
    "names": lambda _old: names(),
    **{
        group: (lambda _old, group=group: kept(group))  # type: ignore[misc]  # the name is bound now
        for group in ("requirements", "acceptance", "differences")
    },
}
