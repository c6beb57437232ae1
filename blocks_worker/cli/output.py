"""What our commands print: plain lines for pipes, tables for people, one line for an error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from blocks_worker.cli.exits import Exit
from blocks_worker.errors import RpcError
from blocks_worker.observability.logs import recorded
from blocks_worker.observability.redact import one_line, without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

#: Characters between two columns.
_BETWEEN = 2
#: A column that is cut shows so many characters more than its head is long.
_LEAST_BEYOND_HEAD = 3
#: What to do about a line of ``.env`` that sets nothing.
UNREAD_CURE = "write NAME=value there, or put # before it"
#: Our programs, and the scripts of a clone that start them without an environment that is activated.
_SCRIPTS = {"blocks-run": "./scripts/run", "blocks-hub": "./scripts/hub", "blocks": "./scripts/blocks"}
#: A command in quotes inside a sentence: its first word is the program.
_QUOTED = re.compile(r"(?<=['`])(blocks-run|blocks-hub|blocks)(?=['` ])")


def end_with(code: Exit, text: str, program: str = "blocks") -> NoReturn:
    """Say in one line on standard error what is wrong and what to do, and end."""
    click.echo(f"{program}: {one_line(without_password(as_typed_here(text)))}", err=True)
    raise SystemExit(int(code))


def say(text: str) -> None:
    """Say how the worker does, in a tagged line; a record where the lines around it are records."""
    line = f"[agent] {one_line(text)}"
    if not recorded(line, sys.stdout):
        click.echo(line)


def tell_unread(lines: Iterable[str]) -> None:
    """Warn of each line of ``.env`` that sets nothing."""
    for line in lines:
        click.echo(f"warning: {line} sets nothing; {UNREAD_CURE}", err=True)


@contextlib.contextmanager
def prints_aside() -> Iterator[None]:
    """Have what modules of users print while they are imported go to standard error: the output is ours."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def output_told(cure: str) -> Iterator[None]:
    """Write to standard output and end in one line when that fails; `cure` says how to see what was lost."""
    try:
        yield
    except OSError as error:
        end_without_output(error, cure)


def end_without_output(error: OSError | None, cure: str) -> NoReturn:
    """Say why nothing more can be printed, and end; None: standard output was closed from the beginning."""
    why = "it is closed" if error is None else error.strerror or str(error)
    if error is not None:
        # What Python still holds of it would fail once more at the end, with a code of its own.
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    end_with(Exit.FAILED, f"standard output cannot be written ({why}); {cure}")


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: 1 slot, 2 slots."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def program(name: str) -> str:
    """Return how a program of ours is started from this folder: in a clone, by its script."""
    script = _SCRIPTS[name]
    return script if Path(script).is_file() else name


def as_typed_here(text: str) -> str:
    """Return a sentence whose quoted commands can be typed in this folder."""
    return _QUOTED.sub(lambda found: program(found[0]), text)


def sentence(error: BaseException) -> str:
    """Return what an error says to a person at a terminal: the hub's refusal without the mark of its exception."""
    return error.rpc_message if isinstance(error, RpcError) else str(error)


def printable(text: str) -> str:
    """Return text of somebody else as a terminal may get it: lines stay lines, nothing else is obeyed."""
    return "\n".join(one_line(line.replace("\t", "    ")) for line in text.splitlines())


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, spare: Sequence[str] = ()) -> None:
    """Print rows: a table on a terminal, else one line a row with tabs between.

    `spare`: columns that are shortened and then left out, the first one first, where the terminal is too narrow;
    with any, the others are never cut.
    """
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join("\t".join(row) for row in [list(heads), *cells]))
        return
    from rich.console import Console

    console = Console()
    if spare:
        widths = fitting(heads, cells, spare, console.width)
        # What must not be cut is wrapped by a terminal that is narrower still, and can be copied all the same.
        console.width = max(console.width, sum(widths.values()) + _BETWEEN * len(widths))
        _draw(console, heads, cells, dict(widths))
    else:
        _draw(console, heads, cells, dict.fromkeys(heads))


def _draw(
    console: Console, heads: Sequence[str], cells: Sequence[Sequence[str]], widths: dict[str, int | None]
) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, _BETWEEN, 0, 0), pad_edge=False)
    for head, width in widths.items():
        drawn.add_column(head, width=width, no_wrap=width is not None, overflow="ellipsis")
    shown = [place for place, head in enumerate(heads) if head in widths]
    for row in cells:
        drawn.add_row(*(Text(row[place]) for place in shown))  # as text: a name in brackets is no markup
    console.print(drawn)


def fitting(heads: Sequence[str], cells: Sequence[Sequence[str]], spare: Sequence[str], room: int) -> dict[str, int]:
    """Return the columns that are shown and their widths, so that all of them fit into `room` characters.

    What is spare loses width down to that of its head, then its place, column by column.
    """
    widths = {head: max(map(len, [head, *(row[place] for row in cells)])) for place, head in enumerate(heads)}
    for head in spare:
        excess = sum(widths.values()) + _BETWEEN * (len(widths) - 1) - room
        if excess <= 0:
            break
        if widths[head] - excess >= len(head) + _LEAST_BEYOND_HEAD:
            widths[head] -= excess
        else:
            del widths[head]
    return widths
