"""`blocks retry`: send tasks that failed or were canceled again."""

from __future__ import annotations

import json

import click

from blocks_worker.cli import completion
from blocks_worker.cli.access import errors_told
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import as_typed_here, sentence
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.client.client import TaskClient
from blocks_worker.errors import ConfigurationError, RpcError
from blocks_worker.observability.redact import one_line


@click.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=completion.tasks_to_retry)
@click.option("--no-steps", is_flag=True, help="Do again what the old task had done in its steps.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a task: taskId and its retry, or the error."
)
def retry(*, tasks: tuple[str, ...], no_steps: bool, as_json: bool) -> None:
    """Send each TASK that failed or was canceled again, as a new task with the same input.

    TASK is an id, or its beginning or end as far as no other task of yours has the same. The exit code is 1 when one of
    them could not be sent again; the others are.
    """
    refused = False
    with errors_told(), TaskClient.create("free") as client:
        for task in tasks:
            try:
                with chosen_task(client.api, task) as task_id:
                    _tell(task_id, client.retry_task(task_id, keep_steps=not no_steps), as_json=as_json)
            except (RpcError, ConfigurationError) as error:
                refused = True
                _tell_refusal(task, error, as_json=as_json)
    if refused:
        raise SystemExit(int(Exit.FAILED))


def _tell(task_id: str, new_id: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"taskId": new_id, "retryOf": task_id}))
    else:
        follow = as_typed_here(f"'blocks watch {new_id}'")
        click.echo(f"task {task_id} is sent again as {new_id}; {follow} shows how it goes")


def _tell_refusal(task: str, error: Exception, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"retryOf": task, "error": sentence(error)}))
    click.echo(f"blocks: {one_line(f'{task}: {as_typed_here(sentence(error))}')}", err=True)
