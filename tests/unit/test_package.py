import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import blocks_worker

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(blocks_worker.__path__, "blocks_worker.")
    if not module.name.endswith("__main__")
)
#: What only one side needs, and what a bare import must not cost anybody.
HEAVY = {"pubnub", "jwt", "rich", "jsonschema", "jinja2", "sqlalchemy", "starlette", "uvicorn", "urllib3", "click"}


def test_public_names_are_there() -> None:
    """Every public name resolves, and none is said twice."""
    assert len(blocks_worker.__all__) == len(set(blocks_worker.__all__))
    for name in blocks_worker.__all__:
        assert getattr(blocks_worker, name) is not None


def test_public_names_agree_with_their_imports() -> None:
    """What type checkers see is what the lazy table resolves."""
    source = (ROOT / "blocks_worker/__init__.py").read_text()
    imported = {
        (alias.name, node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("blocks_worker")
        for alias in node.names
    }

    assert imported == {(name, f"blocks_worker.{home}") for name, home in blocks_worker._HOMES.items()}


def test_every_module_says_its_idea() -> None:
    """Every module imports, and has a docstring."""
    assert [name for name in MODULES if not importlib.import_module(name).__doc__] == []


def test_a_bare_import_loads_nothing_heavy() -> None:
    """Importing the package costs next to nothing: what is heavy comes at first use."""
    code = "import sys, blocks_worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not HEAVY & set(loaded)


def test_a_client_loads_no_server_and_no_sql() -> None:
    """Consumers do not pay for the hub."""
    code = "import sys; from blocks_worker import TaskClient; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"starlette", "uvicorn", "sqlalchemy"} & set(loaded)
