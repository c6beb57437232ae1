import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blocks_worker.client.client import TaskClient
from blocks_worker.hub.store import revisions

if TYPE_CHECKING:
    from conftest import World

FIRST_TABLES = Path(__file__).parents[1] / "unit" / "hub" / "store" / "first_tables.sql"


def ledger(world: "World", *statements: str) -> Path:
    """Make a ledger from before the numbering in the state folder, and do this to it."""
    path = world.folder / "state" / "hub.sqlite3"
    path.parent.mkdir(mode=0o700)
    driver = sqlite3.connect(path)
    driver.executescript(FIRST_TABLES.read_text())
    for statement in statements:
        driver.execute(statement)
    driver.commit()
    driver.close()
    return path


def test_an_old_ledger_serves_on(world: "World", client: Callable[[], TaskClient]) -> None:
    """[M2] A state folder of an earlier program is used by this one, and a task runs on it."""
    path = ledger(world)
    world.worker("echo")

    assert client().run("echo", "Hello", timeout=30).text == "Echoed request: Hello"
    driver = sqlite3.connect(path)
    (version,) = driver.execute("SELECT version_num FROM alembic_version").fetchone()
    driver.close()
    assert version == revisions.known(revisions.SCRIPTS)[-1]


@pytest.mark.parametrize(
    "command", [("blocks-hub", "--port", "0"), ("blocks-run", "--handler", "echo")], ids=lambda c: c[0]
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ["CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('9999')"],
            "has version 9999",
        ),
        (["DROP TABLE file_use"], "never released"),
        (["CREATE TABLE alembic_version (version_num TEXT)", "DROP TABLE purge"], "never released"),
    ],
    ids=["newer", "unreleased", "never marked"],
)
def test_a_ledger_that_cannot_be_used_is_one_line(
    world: "World", command: tuple[str, ...], change: list[str], said: str
) -> None:
    """[M5] The program ends with code 1 and one sentence, and the ledger keeps every byte."""
    path = ledger(world, *change)
    before = path.read_bytes()
    done = world.run(*command, LOG_LEVEL="error")

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert path.read_bytes() == before
