import pytest

from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with, printable, table


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
