from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import StoreError
from blocks_worker.hub.store import revisions
from blocks_worker.hub.store.database import driver_of, open_database
from blocks_worker.hub.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_TABLES = Path(__file__).parents[1] / "unit" / "hub" / "store" / "first_tables.sql"
NEWEST = revisions.known(revisions.SCRIPTS)[-1]
#: The version that the scripts of these tests lead to.
NEXT = f"{int(NEWEST) + 1:04}"

_HEAD = f'''
"""What a later program would do."""
import sqlalchemy as sa
from alembic import op
revision = "{NEXT}"
down_revision = "{NEWEST}"
def upgrade():
'''
GOOD = "op.add_column('meta', sa.Column('later', sa.Text)); op.create_table('extra', sa.Column('a', sa.Text))"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Be where the ledger is."""
    return tmp_path / "hub.sqlite3"


class Scripts:
    """The scripts of a later program: ours, and one more that a test writes."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(revisions.SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder

    def add(self, *lines: str) -> Path:
        """Write the one script more, and return the folder."""
        body = "".join(f"    {line}\n" for line in lines)
        (self.folder / f"v{NEXT}_later.py").write_text(_HEAD + body)
        return self.folder


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Be the scripts of a later program; no compiled ones of an earlier test are taken for them."""
    yield Scripts(tmp_path / "later" / "versions")
    shutil.rmtree(tmp_path / "later")


def make(path: Path) -> list[str]:
    """Make a ledger of today with a row in it; return its content."""
    database = open_database(path)
    driver_of(database.writer).execute("INSERT INTO meta (key, value) VALUES ('a', '1')")
    database.close()
    return content(path)


def make_first(path: Path, *more: str) -> None:
    """Make a ledger as the last program did that numbered nothing, with a row in each table."""
    driver = sqlite3.connect(path)
    driver.executescript(FIRST_TABLES.read_text())
    for (table,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = driver.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
        row = [1 if kind in ("INTEGER", "FLOAT", "BOOLEAN") else name for name, kind in columns]
        driver.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - our names
    for statement in more:
        driver.execute(statement)
    driver.commit()
    driver.execute("PRAGMA journal_mode=WAL").fetchall()
    driver.close()


def content(path: Path) -> list[str]:
    """Return all that the database holds, as text."""
    driver = sqlite3.connect(path)
    lines = list(driver.iterdump())
    lines += map(str, driver.execute("PRAGMA user_version").fetchone())
    driver.close()
    return lines


def rows(path: Path) -> dict[str, dict[str, object]]:
    """Return the first row of each table that has one."""
    driver = sqlite3.connect(path)
    driver.row_factory = sqlite3.Row
    tables = [row["name"] for row in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {table: driver.execute(f"SELECT * FROM {table}").fetchone() for table in tables}  # noqa: S608 - our names
    driver.close()
    return {table: dict(row) for table, row in found.items() if row is not None}


def version(path: Path) -> str:
    """Return the version that the ledger is in."""
    driver = sqlite3.connect(path)
    (found,) = driver.execute("SELECT version_num FROM alembic_version").fetchone()
    driver.close()
    return str(found)


def upgrade(path: Path, folder: Path) -> None:
    """Open the ledger with these scripts, and close it."""
    open_database(path, folder).close()


def files(path: Path) -> dict[str, bytes]:
    """Return every file beside the ledger, and the ledger."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}


# ------------------------------------------------------------------------------------------------ what goes well
def test_a_new_ledger_is_in_the_newest_version(path: Path) -> None:
    """A new ledger needs no step and no copy."""
    make(path)

    assert version(path) == NEWEST
    assert list(files(path)) == [path.name]


def test_a_ledger_from_before_the_numbering_is_taken_over(path: Path) -> None:
    """[M2] The tables of the last program without numbers become version after version, and each row is there."""
    make_first(path)
    before = rows(path)
    store = Store(path, clock=Clock())
    store.open()
    store.close(Deadline(10))
    after = rows(path)

    assert version(path) == NEWEST
    assert content(path)[-1] == "0", "the mark of before is gone"
    assert {name: {**after[name], **row} for name, row in before.items()} == {name: after[name] for name in before}


def test_what_was_given_up_before_is_found(path: Path) -> None:
    """[M2] Tasks that an older release gave up become dead letters, each by its reason; all others do not."""
    given_up = {"poison": "t1", "lease_lost": "t2", "queue_ttl": "t3"}
    copied = "INSERT INTO task SELECT {0}, {1} FROM task WHERE id = 'id'"
    make_first(path)
    driver = sqlite3.connect(path)
    columns = [name for (name,) in driver.execute("SELECT name FROM pragma_table_info('task')")]
    changes = {
        "t1": {"state": "FAILED", "error_code": "lease_lost", "delivery": "at_least_once"},
        "t2": {"state": "FAILED", "error_code": "lease_lost", "delivery": "at_most_once"},
        "t3": {"state": "EXPIRED", "reason": "queue_ttl"},
        "t4": {"state": "EXPIRED", "reason": "deadline"},
        "t5": {"state": "FAILED", "error_code": "handler_error"},
    }
    for name, change in changes.items():
        row = {"id": name, "idem": name, **change}
        values = [f"'{row[column]}'" if column in row else column for column in columns]
        driver.execute(copied.format(values[0], ", ".join(values[1:])))
    driver.commit()
    driver.close()
    open_database(path).close()
    driver = sqlite3.connect(path)
    found = driver.execute("SELECT dead_reason, id FROM task WHERE dead_reason IS NOT NULL").fetchall()
    driver.close()

    assert dict(found) == given_up


def test_what_waited_before_keeps_its_place(path: Path) -> None:
    """[M2] Tasks of an older release have the usual priority and the rank that this has, so that their order stays."""
    make_first(path, "UPDATE task SET created = 1700000000000, state = 'QUEUED'")
    open_database(path).close()
    row = rows(path)["task"]

    assert (row["priority"], row["rank"]) == (5, 1_699_999_700_000)


def test_an_older_ledger_is_brought_up_and_a_copy_is_kept(path: Path, scripts: Scripts) -> None:
    """[M2] The copy is what was before, is named after its version, and is for its owner alone."""
    before = make(path)
    upgrade(path, scripts.add(GOOD))
    copy = path.with_name(f"hub.sqlite3.v{NEWEST}.backup")

    assert version(path) == NEXT
    assert "INSERT INTO \"meta\" VALUES('a','1',NULL);" in content(path)
    assert content(copy) == before
    assert copy.stat().st_mode & 0o077 == 0


def test_a_copy_is_a_ledger(path: Path, scripts: Scripts) -> None:
    """[M2] Whoever goes back to the older program puts the copy in the ledger's place, and may come again."""
    before = make(path)
    upgrade(path, scripts.add(GOOD))
    path.with_name(f"hub.sqlite3.v{NEWEST}.backup").replace(path)
    upgrade(path, revisions.SCRIPTS)
    assert content(path) == before
    upgrade(path, scripts.folder)

    assert version(path) == NEXT


def test_only_the_newest_copy_is_kept(path: Path, scripts: Scripts) -> None:
    """[M2] Copies do not pile up; other files stay."""
    make(path)
    old, foreign = path.with_name("hub.sqlite3.v0000.backup"), path.with_name("hub.sqlite3.mine.backup")
    old.write_text("old")
    foreign.write_text("mine")
    upgrade(path, scripts.add(GOOD))

    assert set(files(path)) == {path.name, foreign.name, f"hub.sqlite3.v{NEWEST}.backup"}


def test_writes_since_the_last_checkpoint_are_in_the_copy(path: Path, scripts: Scripts) -> None:
    """[M2] A hub that was killed leaves commits beside the file; they are copied and brought up too."""
    program = (
        "import os, sys; from pathlib import Path; from blocks_worker.hub.store.database import *\n"
        "database = open_database(Path(sys.argv[1])); driver_of(database.writer).execute("
        "\"INSERT INTO meta (key, value) VALUES ('late', '1')\"); os._exit(0)"
    )
    make(path)
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=_environment())
    assert path.with_name("hub.sqlite3-wal").stat().st_size
    upgrade(path, scripts.add(GOOD))

    assert "INSERT INTO \"meta\" VALUES('late','1');" in content(path.with_name(f"hub.sqlite3.v{NEWEST}.backup"))
    assert "INSERT INTO \"meta\" VALUES('late','1',NULL);" in content(path)


# ------------------------------------------------------------------------------------------------ what fails
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("op.create_table('task', sa.Column('a', sa.Text))", "table task already exists"),
        ("op.execute('INSERT INTO purge SELECT 1')", "has 6 columns"),
        (
            "op.execute('PRAGMA max_page_count = 1'); "
            "op.execute(\"INSERT INTO meta (key, value) VALUES ('big', hex(randomblob(9000000)))\")",
            "database or disk is full",
        ),
        ("raise LookupError('a mistake')", "a mistake"),
    ],
    ids=["table is there", "bad statement", "disk full", "mistake"],
)
def test_a_step_that_fails_changes_nothing(path: Path, scripts: Scripts, fault: str, said: str) -> None:
    """[M3] What the script did before is undone; a sentence says what failed, and a mended script does it all."""
    before = make(path)
    scripts.add(GOOD, fault)
    with pytest.raises(StoreError, match=said) as caught:
        upgrade(path, scripts.folder)

    assert caught.value.code == "migration"
    assert f"from version {NEWEST} to {NEXT}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(path) == before
    upgrade(path, revisions.SCRIPTS)
    shutil.rmtree(scripts.folder / "__pycache__", ignore_errors=True)
    upgrade(path, scripts.add(GOOD))
    assert version(path) == NEXT


def test_a_taking_over_that_fails_changes_nothing(path: Path, scripts: Scripts) -> None:
    """[M3] A ledger from before the numbering keeps its old mark too, and is taken over by the next start."""
    make_first(path)
    before = content(path)
    with pytest.raises(StoreError, match=f"from version {revisions.FIRST} to {NEXT} .* tell who wrote"):
        upgrade(path, scripts.add(GOOD, "raise LookupError('a mistake')"))

    assert content(path) == before
    upgrade(path, revisions.SCRIPTS)
    assert version(path) == NEWEST


_SMALL = """
import resource, sys
from pathlib import Path
from blocks_worker.errors import StoreError
from blocks_worker.hub.store.database import open_database
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    open_database(Path(sys.argv[1]), Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "copies"), [(60_000, 0), (400_000, 1)], ids=["for the copy", "for the step"])
def test_no_room_on_the_disk(path: Path, scripts: Scripts, limit: int, copies: int) -> None:
    """[M3] Whether the copy does not fit, or what the step writes: the ledger is as it was, no half copy is left."""
    before = make(path)
    folder = scripts.add(GOOD, "op.execute(\"INSERT INTO meta (key, value) VALUES ('a2', hex(randomblob(2000000)))\")")
    command = [sys.executable, "-c", _SMALL, str(path), str(folder), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())

    assert f"could not be brought from version {NEWEST} to {NEXT}" in done.stdout
    assert "make room" in done.stdout
    assert done.stdout.count("\n") == 1
    assert content(path) == before
    assert not [name for name in files(path) if "draft" in name]
    assert len([name for name in files(path) if name.endswith(".backup")]) == copies
    upgrade(path, folder)
    assert version(path) == NEXT


def test_a_kill_in_the_middle_is_done_again(path: Path, scripts: Scripts, tmp_path: Path) -> None:
    """[M4] A ledger whose hub was killed between two statements is as before, and the next start does it all."""
    before = make(path)
    flag = tmp_path / "flag"
    half = scripts.add(GOOD, f"import pathlib, signal; pathlib.Path({str(flag)!r}).touch(); signal.pause()")
    program = "import sys; from pathlib import Path; from blocks_worker.hub.store.database import open_database; "
    program += "open_database(Path(sys.argv[1]), Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", program, str(path), str(half)], env=_environment())
    try:
        wait_until(flag.exists, 90, what="the middle of the step")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert content(path) == before
    shutil.rmtree(half / "__pycache__", ignore_errors=True)
    upgrade(path, scripts.add(GOOD))

    assert version(path) == NEXT
    assert content(path.with_name(f"hub.sqlite3.v{NEWEST}.backup")) == before


# ------------------------------------------------------------------------------------------------ what is refused
def test_a_newer_ledger_is_not_touched(path: Path, scripts: Scripts) -> None:
    """[M5] An older program says which version the ledger has and who can read it, and leaves every byte."""
    make(path)
    upgrade(path, scripts.add(GOOD))
    before = files(path)
    with pytest.raises(
        StoreError, match=f"has version {NEXT}, .* knows {NEWEST} at most: use blocks_worker "
    ) as caught:
        Store(path, clock=Clock()).open()

    assert caught.value.code == "version"
    assert files(path) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE file_use", "lacks file_use"),
        ("ALTER TABLE task DROP COLUMN watchers", r"lacks task\.watchers"),
        ("ALTER TABLE task ADD COLUMN later TEXT", r"has besides task\.later"),
    ],
)
def test_a_ledger_that_no_release_made(path: Path, change: str, said: str) -> None:
    """[M6] Tables of no version are told by what they lack, with what to do; nothing is mended or touched."""
    make_first(path, "DROP INDEX file_use_file" if "file_use" in change else "SELECT 1", change)
    before = files(path)
    with pytest.raises(StoreError, match=f"never released .*{said}.* move it away") as caught:
        Store(path, clock=Clock()).open()

    assert caught.value.code == "unreleased"
    assert files(path) == before


def test_a_ledger_with_a_version_that_lacks_something(path: Path) -> None:
    """[M6] A version alone is not believed: a column that is not there is told at the start, not by a task."""
    make(path)
    driver = sqlite3.connect(path)
    driver.execute("ALTER TABLE task DROP COLUMN watchers")
    driver.close()
    with pytest.raises(StoreError, match=r"lacks task\.watchers\)"):
        Store(path, clock=Clock()).open()


@pytest.mark.parametrize("made", ["CREATE TABLE theirs (a)", "PRAGMA user_version = 999"])
def test_somebody_elses_database(path: Path, made: str) -> None:
    """[M6] A database of another program under the ledger's name is refused, and left as it is."""
    other = sqlite3.connect(path)
    other.execute(made)
    other.close()
    before = files(path)
    with pytest.raises(StoreError, match="no ledger of blocks_worker") as caught:
        Store(path, clock=Clock()).open()

    assert caught.value.code == "foreign"
    assert files(path) == before


# ------------------------------------------------------------------------------------------------ what it costs
def test_a_start_without_a_change_imports_no_alembic(path: Path) -> None:
    """[M7] A new ledger and one in the newest version are opened without it."""
    program = "import sys; from pathlib import Path; from blocks_worker.hub.store.database import open_database; "
    program += "open_database(Path(sys.argv[1])); open_database(Path(sys.argv[1])); print('alembic' in sys.modules)"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())

    assert done.stdout == "False\n"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
