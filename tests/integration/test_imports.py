"""What an import costs: nothing heavy before it is used."""

import subprocess
import sys

#: What only one side needs, and what a bare import must not cost anybody.
HEAVY = {"pubnub", "jwt", "rich", "jsonschema", "jinja2", "sqlalchemy", "starlette", "uvicorn", "urllib3", "click"}


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
