import ast
import importlib
import pkgutil
from pathlib import Path

import blocks_worker

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(blocks_worker.__path__, "blocks_worker.")
    if not module.name.endswith("__main__")
)


def test_public_names_are_there() -> None:
    """Every public name resolves, and none is said twice."""
    assert len(blocks_worker.__all__) == len(set(blocks_worker.__all__))
    for name in blocks_worker.__all__:
        assert getattr(blocks_worker, name) is not None


def test_public_names_agree_with_their_imports() -> None:
    """What type checkers see is what the lazy table resolves."""
    source = (ROOT / "blocks_worker/__init__.py").read_text()
    shown = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    imported = {
        (alias.name, node.module)
        for node in ast.walk(shown)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert imported == {(name, f"blocks_worker.{home}") for name, home in blocks_worker._HOMES.items()}


def test_every_module_says_its_idea() -> None:
    """Every module imports, and has a docstring."""
    assert [name for name in MODULES if not importlib.import_module(name).__doc__] == []
