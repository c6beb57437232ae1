"""What our commands print: plain lines for pipes, tables for people, one line for an error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from blocks_worker.observability.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.cli.exits import Exit


def end_with(code: Exit, text: str, program: str = "blocks") -> NoReturn:
    """Say in one line on standard error what is wrong and what to do, and end."""
    click.echo(f"{program}: {one_line(text)}", err=True)
    raise SystemExit(int(code))


def printable(text: str) -> str:
    """Return text of somebody else as a terminal may get it: lines stay lines, nothing else is obeyed."""
    return "\n".join(one_line(line.replace("\t", "    ")) for line in text.splitlines())


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows: a table on a terminal, else one line a row with tabs between."""
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join("\t".join(row) for row in [list(heads), *cells]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*heads, box=box.SIMPLE_HEAD)
    for row in cells:
        drawn.add_row(*map(Text, row))  # as text: a name in brackets is no markup
    Console().print(drawn)
