import json
import subprocess
import sys

import pytest

from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with, fitting, printable, sentence, table
from blocks_worker.errors import RpcError


def test_foreign_text_commands_no_terminal() -> None:
    """[H9] Lines stay lines; what a terminal would obey is written out."""
    assert printable("a\tb\r\n\x1b[2Jc") == "a    b\n\\x1b[2Jc"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An error with line ends in its text is still one line, and carries its code."""
    with pytest.raises(SystemExit) as caught:
        end_with(Exit.TIMEOUT, "two\nlines")

    assert (caught.value.code, capsys.readouterr().err) == (3, "blocks: two\\nlines\n")


def test_a_table_for_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Away from a terminal a row is a line with tabs."""
    table(("A", "B"), [("x", None), ("[bold]", 3)])

    assert capsys.readouterr().out == "A\tB\nx\t\n[bold]\t3\n"


HEADS = ("TASK", "AGENT", "STATE", "CREATED", "RUN", "ERROR")
SPARE = ("ERROR", "RUN", "CREATED", "AGENT", "STATE")
CELLS = [
    ["0" * 36, "an_agent_with_a_long_name", "completed", "12:30:01", "1", ""],
    ["1" * 36, "echo", "failed", "12:30:01", "1", "no such thing as that, whatever it is; " * 3],
]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (50, {"TASK": 36, "STATE": 9}),
        (80, {"TASK": 36, "AGENT": 25, "STATE": 9}),
        (120, {"TASK": 36, "AGENT": 25, "STATE": 9, "CREATED": 8, "RUN": 3, "ERROR": 29}),
        (400, {"TASK": 36, "AGENT": 25, "STATE": 9, "CREATED": 8, "RUN": 3, "ERROR": 117}),
        (20, {"TASK": 36}),
    ],
)
def test_a_narrow_table_cuts_what_is_spare_and_never_the_id(room: int, shown: dict[str, int]) -> None:
    """Columns give way one after another; what is left fits, and the id is whole however narrow it is."""
    widths = fitting(HEADS, CELLS, SPARE, room)

    assert widths == shown
    assert sum(widths.values()) + 2 * (len(widths) - 1) <= max(room, 36)


def test_an_error_of_the_hub_is_told_without_its_mark() -> None:
    """The mark of the exception's text is for logs of programs."""
    assert sentence(RpcError("no such task", code="NotFound", status=404)) == "no such task"


def test_a_worker_speaks_in_lines_and_among_records_in_records() -> None:
    """Where JSON lines go to the same file, what the worker says is one of them; else it is a plain line."""
    code = (
        "from blocks_worker.cli.output import say; from blocks_worker.observability.logs import setup_logging; "
        "setup_logging('error', 'json'); say('ready')"
    )
    together = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    apart = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    record = json.loads(together.stdout)

    assert (record["message"], record["level"]) == ("[agent] ready", "info")
    assert (apart.stdout, apart.stderr) == (b"[agent] ready\n", b"")
