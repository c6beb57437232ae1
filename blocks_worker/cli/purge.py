"""`blocks purge`: have the hub delete tasks that are over, before their time."""

from __future__ import annotations

import json

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.asking import confirmed
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import as_typed_here, counted, sentence
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.errors import ConfigurationError, RpcError
from blocks_worker.observability.redact import one_line


@click.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=completion.tasks_that_ended)
@click.option("--yes", is_flag=True, help="Do not ask whether that is meant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a task: what stays of it, or the error.")
def purge(*, tasks: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete each TASK that is over, with its input, events and files; nothing brings it back.

    TASK is an id, or its beginning or end as far as no other task of yours has the same. The exit code is 1 when one of
    them could not be purged; the others are.
    """
    if not yes:
        confirmed(
            f"delete {counted(len(tasks), 'task')} for good?", "nothing was deleted; --yes deletes without asking"
        )
    refused = False
    with open_hub() as hub:
        for task in tasks:
            try:
                with chosen_task(hub, task) as task_id:
                    left = hub.purge_task(task_id)
            except (RpcError, ConfigurationError) as error:
                refused = True
                if as_json:
                    click.echo(json.dumps({"taskId": task, "error": sentence(error)}))
                click.echo(f"blocks: {one_line(f'{task}: {as_typed_here(sentence(error))}')}", err=True)
                continue
            told = json.dumps(msgspec.to_builtins(left)) if as_json else f"task {left.task_id} is purged"
            click.echo(told)
    if refused:
        raise SystemExit(int(Exit.FAILED))
