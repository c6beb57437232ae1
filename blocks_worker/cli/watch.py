"""`blocks watch`: join a task, whoever sent it, and print its events until it is over."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from blocks_worker.cli import completion
from blocks_worker.cli.access import errors_told
from blocks_worker.cli.display import event_line, warning_of, why_ended
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.client.client import TaskClient

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent

_COMPLETED = "completed"


@click.command()
@click.argument("task", shell_complete=completion.tasks)
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def watch(*, task: str, as_json: bool) -> None:
    """Print the events of TASK, past and coming, until it is over. Ctrl-C ends the watching, not the task.

    Each has its time of day; warnings go to standard error.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    last: TaskEvent | None = None
    with errors_told(), TaskClient.create("free") as client:
        with chosen_task(client.api, task) as task_id:
            session = client.connect(task_id)
        with session:
            for last in session:
                _show(last, as_json=as_json)
    if last is None or last.type != "terminal":
        end_with(Exit.FAILED, f"watching task {task_id} ended before the task did")
    if last.state != _COMPLETED:
        end_with(Exit.FAILED, f"task {task_id} {last.state}: {why_ended(last, session.list_events())}")


def _show(event: TaskEvent, *, as_json: bool) -> None:
    """Print an event; a warning for people goes to standard error, as `blocks send` has it."""
    warning = warning_of(event)
    if warning is not None:
        click.echo(warning, err=True)
    if as_json:
        click.echo(json.dumps(event.raw))
    elif warning is None:
        click.echo(f"{_moment(event)}{event_line(event)}")


def _moment(event: TaskEvent) -> str:
    if event.ts is None:
        return ""
    return f"{datetime.fromtimestamp(event.ts / 1000, tz=timezone.utc).astimezone():%H:%M:%S} "
