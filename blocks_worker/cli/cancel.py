"""`blocks cancel`: ask a task to stop, whoever sent it."""

from __future__ import annotations

import json

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.output import as_typed_here
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.protocol.tasks import MAX_REASON, CancelTask


def _reason(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and len(value) > MAX_REASON:
        raise click.BadParameter(f"at most {MAX_REASON} characters", ctx, param)
    return value


@click.command()
@click.argument("task", shell_complete=completion.tasks_under_way)
@click.option("--reason", callback=_reason, help="Why; the handler and everybody who watches sees it.")
@click.option("--terminate", is_flag=True, help="Have it ended within seconds, whatever its handler does.")
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answer as one JSON object.")
def cancel(*, task: str, reason: str | None, terminate: bool, as_json: bool) -> None:
    """Ask TASK to stop. One that is over stays as it is.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    with open_hub() as hub, chosen_task(hub, task) as task_id:
        answer = hub.cancel_task(task_id, CancelTask(reason=reason, terminated=terminate))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answer)))
    elif answer.already_ended:
        click.echo(f"task {answer.task_id} was over before: {answer.state}")
    elif answer.state == "canceled":
        click.echo(f"task {answer.task_id} is canceled")
    else:
        follow = as_typed_here(f"'blocks watch {answer.task_id}'")
        click.echo(f"task {answer.task_id} was asked to stop; {follow} shows its end")
