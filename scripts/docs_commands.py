"""The commands with their arguments, options and first words, as docs/reference.md lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from docs_source import code, table

from blocks_worker.cli.hub import main as blocks_hub
from blocks_worker.cli.main import blocks
from blocks_worker.cli.run import run as blocks_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def commands() -> str:
    """Return every command of the three programs."""
    rows = [*_rows("blocks-run", blocks_run), *_rows("blocks-hub", blocks_hub), *_rows("blocks", blocks)]
    return table(("command", "does", "options"), rows)


def _rows(name: str, command: click.Command) -> Iterator[tuple[str, str, str]]:
    is_group = isinstance(command, click.Group)
    if not is_group or command.invoke_without_command:
        yield code(" ".join([name, *_arguments(command)])), _does(command), _options(command)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            if found is not None:
                yield from _rows(f"{name} {each}", found)


def _arguments(command: click.Command) -> Iterator[str]:
    for each in command.params:
        if isinstance(each, click.Argument):
            shown = each.metavar or str(each.name).upper()
            yield shown if each.required else f"[{shown}]"


def _does(command: click.Command) -> str:
    """Return the first paragraph of the help."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _options(command: click.Command) -> str:
    shown = [each for each in command.params if isinstance(each, click.Option) and each.opts[0] != "--version"]
    return " ".join(code(each.opts[0]) for each in shown)


BLOCKS: dict[str, Callable[[str], str]] = {"commands": lambda _old: commands()}
