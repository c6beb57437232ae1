"""Ask a person at a terminal before something is done that many are concerned by, or that cannot be undone."""

from __future__ import annotations

import click

from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with


def confirmed(question: str, otherwise: str) -> None:
    """Return where a person says yes; else end the program with this sentence."""
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        click.echo(err=True)
    end_with(Exit.FAILED, otherwise)
