"""`blocks watch`: join a task, whoever sent it, and print its events until it is over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blocks_worker.cli.access import errors_told
from blocks_worker.cli.display import event_line
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with
from blocks_worker.client.client import TaskClient

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent

_COMPLETED = "completed"


@click.command()
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def watch(*, task: str, as_json: bool) -> None:
    """Print the events of TASK, past and coming, until it is over. Ctrl-C ends the watching, not the task."""
    last: TaskEvent | None = None
    with errors_told(), TaskClient.create("free") as client, client.connect(task) as session:
        for last in session:
            click.echo(json.dumps(last.raw) if as_json else event_line(last))
    if last is None or last.type != "terminal":
        end_with(Exit.FAILED, f"watching task {task} ended before the task did")
    if last.state != _COMPLETED:
        end_with(Exit.FAILED, f"task {task} {last.state}: {last.error or last.reason or 'no reason given'}")
