"""The program that writes the repeated parts of the pages, on trees of its own."""

from __future__ import annotations

import io
import runpy
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "blocks_worker"


def cells(page: Path) -> Iterator[list[str]]:
    """Yield the cells of each row of each table of a page."""
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def docs(root: Path, *arguments: str) -> tuple[int, str]:
    """Run `scripts/docs` of a tree; return its exit code and what it said.

    In this process, which has the package imported already: to start one for each run takes seconds. What the program
    knows by itself is new each time, and so is what it has read.
    """
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        for name in [name for name in sys.modules if name.startswith("docs_")]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(root / "scripts")
        patch.setattr(sys, "argv", ["docs.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(root / "scripts/docs.py"), run_name="__main__")
        for name in [name for name in sys.modules if name.startswith("docs_")]:
            patch.delitem(sys.modules, name)
    code = ended.value.code
    assert isinstance(code, int)
    return code, said.getvalue()


def row(name: str, unproven: str = 'unproven = "it costs a fuse"') -> str:
    """Return a row of what can go wrong."""
    return f'[{name}]\nfailure = "The light goes out."\nbehaviour = "It goes on."\n{unproven}\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree like this one, with tests of its own and no page yet: each costs a second."""
    root = tmp_path / "tree"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "blocks_worker").symlink_to(PACKAGE)
    (root / "docs").mkdir()
    (root / "tests").mkdir()
    (root / "scripts/reliability.toml").write_text(row("A1") + row("A2"))
    return root


def page(tree: Path, name: str) -> Path:
    """Give a tree one of our pages; return where it lies."""
    return Path(shutil.copy(ROOT / "docs" / name, tree / "docs" / name))


def test_the_pages_say_what_code_and_tests_say() -> None:
    """No table is stale, no test names a promise that nobody made, and none names more than three."""
    assert docs(ROOT, "--check") == (0, "docs say what the code says\n")


@pytest.mark.parametrize(
    ("block", "right", "wrong"),
    [
        ("protocol.md: numbers", "| `lease_ttl` | 30 s |", "| `lease_ttl` | 31 s |"),
        ("protocol.md: task-turns", "| QUEUED | offer | OFFERED |", "| QUEUED | offer | RUNNING |"),
        ("protocol.md: values", "`worker/nonces.py:MISSES` | 3 |", "`worker/nonces.py:MISSES` | 4 |"),
        (
            "threads.md: values",
            "`transports/base.py:QUEUE_BYTES` | 8 MiB |",
            "`transports/base.py:QUEUE_BYTES` | 9 MiB |",
        ),
        ("reference.md: exit-codes", "| 2 | `USAGE` |", "| 64 | `USAGE` |"),
    ],
)
def test_what_was_changed_by_hand_is_put_right(tree: Path, block: str, right: str, wrong: str) -> None:
    """A check names page and table and fails; writing puts it right and touches nothing else."""
    path = page(tree, block.partition(":")[0])
    before = path.read_text()
    assert before.count(right) == 1
    path.write_text(before.replace(right, wrong))

    code, said = docs(tree, "--check")
    assert (code, f"docs/{block} is stale" in said) == (1, True), said
    docs(tree)
    assert path.read_text() == before


def test_a_promise_is_shown_with_its_test(tree: Path) -> None:
    """The table has the promise of the test's docstring without its ids; what has no test is not yet kept."""
    text = 'class TestIt:\n    def test_one(self):\n        """It holds. [R-1] [2.2 check 7, E3, A-2]\n        """\n'
    (tree / "tests/test_it.py").write_text(text)
    path = page(tree, "compatibility.md")

    assert "docs/compatibility.md: requirements is stale" in docs(tree, "--check")[1]
    docs(tree)
    rows = {row[0]: row[2:] for row in cells(path)}
    assert rows["R-1"] == rows["A-2"] == ["It holds.", "`test_it.py::TestIt::test_one`"]
    assert rows["R-2"] == ["not yet", ""]


@pytest.mark.parametrize(
    ("ids", "why"),
    [("[R-999]", "nothing is promised as R-999"), ("[R-1] [R-2, R-3] [A-1]", "4 ids; 3 at most")],
)
def test_ids_that_prove_nothing_are_refused(tree: Path, ids: str, why: str) -> None:
    """An id that nobody promised, and a test that names more than three, fail the check and the writing."""
    (tree / "tests/test_it.py").write_text(f'def test_one():\n    """{ids} It holds."""\n')

    for arguments in ((), ("--check",)):
        code, said = docs(tree, *arguments)
        assert code == 1
        assert f"test_it.py::test_one: {why}" in said


def test_a_failure_is_shown_with_the_tests_that_make_it_happen(tree: Path) -> None:
    """Each row has its tests, or why there is none; ids of other kinds are other people's."""
    text = 'def test_dark():\n    """It goes on. [A1] [A-1, R-1] [I1, P2] [K1]"""\n'
    (tree / "tests/test_dark.py").write_text(text + text.replace("test_dark", "test_still_dark"))
    (tree / "scripts/reliability.toml").write_text(row("A1", unproven="") + row("A2"))
    path = page(tree, "reliability.md")

    assert "docs/reliability.md: failures-transport is stale" in docs(tree, "--check")[1]
    assert docs(tree)[0] == 0
    rows = {row[0]: row[1:] for row in cells(path)}
    assert rows["A1"][1:] == ["It goes on.", "`test_dark.py::test_dark`<br>`test_dark.py::test_still_dark`"]
    assert rows["A2"][0::2] == ["The light goes out.", "not proven: it costs a fuse"]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (row("A1", unproven=""), "no test names [A1]"),
        (row("A1") + row("A2"), "A2 is said to be unproven, but a test names [A2]"),
        (row("A1") + row("A2", unproven='because = "so"'), "A2 has failure, behaviour, and unproven"),
        (row("A1"), "test_it.py::test_one: no row is called A2"),
    ],
)
def test_a_row_has_a_test_or_a_reason(tree: Path, rows: str, why: str) -> None:
    """A row with neither or both, and a test of a row that is not there, fail the check and the writing."""
    (tree / "tests/test_it.py").write_text('def test_one():\n    """It holds. [A2]"""\n')
    (tree / "scripts/reliability.toml").write_text(rows)

    for arguments in ((), ("--check",)):
        code, said = docs(tree, *arguments)
        assert code == 1
        assert why in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!-- generated: nothing -->\n<!-- end -->\n", "no block is called 'nothing'"),
        ("<!-- generated: numbers -->\n", "has no end"),
        ("<!-- end -->\n", "where a beginning has to be"),
        ("<!-- generated: values -->\n| `worker/nonces.py:MISSES` | few | |\n<!-- end -->\n", "write a number"),
        ("<!-- generated: values -->\n| `worker/nonces.py:NONE` | 3 | |\n<!-- end -->\n", "has no constant NONE"),
    ],
)
def test_a_page_that_cannot_be_written_is_named(tree: Path, text: str, why: str) -> None:
    """A mark that is wrong, or a row about a constant that is not there, is one line that says so."""
    (tree / "docs/new.md").write_text(text)

    code, said = docs(tree)

    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("docs/new.md: ")]
    assert why in line
