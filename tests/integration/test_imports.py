"""What an import costs: nothing heavy before it is used."""

import subprocess
import sys

import pytest

#: What only one side needs, and what a bare import must not cost anybody.
HEAVY = {"pubnub", "jwt", "rich", "jsonschema", "jinja2", "sqlalchemy", "starlette", "uvicorn", "urllib3", "click"}
#: Of these the hub alone makes use.
OF_HUBS = {"starlette", "uvicorn", "sqlalchemy", "alembic", "jwt", "cryptography"}
#: Of these each is one transport's.
OF_PUBNUB = {"pubnub", "httpx", "rich", "Cryptodome"}
OF_LINKS = {"websockets"}


def loaded_by(program: str) -> set[str]:
    """Return the packages that a program has loaded at its end."""
    code = f"import sys; {program}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_a_bare_import_loads_nothing_heavy() -> None:
    """Importing the package costs next to nothing: what is heavy comes at first use."""
    assert not HEAVY & loaded_by("import blocks_worker")


@pytest.mark.parametrize("name", ["blocks_worker.TaskClient", "blocks_worker.worker.worker.Worker"])
def test_neither_client_nor_worker_loads_a_hub_or_a_transport(name: str) -> None:
    """Consumers and workers pay for no server and no SQL, and for a transport only once it is known which."""
    module, _, what = name.rpartition(".")

    loaded = loaded_by(f"from {module} import {what}")

    assert not (OF_HUBS | OF_PUBNUB | OF_LINKS | {"jsonschema"}) & loaded
