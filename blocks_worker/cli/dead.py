"""`blocks dead`: tasks that the hub gave up: list them, look at one, send them again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import errors_told, open_hub
from blocks_worker.cli.asking import confirmed
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import as_typed_here, counted, sentence, table
from blocks_worker.cli.spans import span
from blocks_worker.cli.task import moment, print_row
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.client.client import TaskClient
from blocks_worker.client.repeating import one_try, repeated
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.errors import ConfigurationError, RpcError, ended_because
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.tasks import DeadReason, RetryTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.tasks import SubmitAnswer, TaskRow

_HEADS = ("TASK", "AGENT", "REASON", "ENDED", "RUNS", "ERROR")
_SPARE = ("ERROR", "RUNS", "ENDED", "AGENT")
#: Tasks of one request.
_PAGE = 256
#: So many are sent again without being asked whether that is meant.
_FEW = 1
#: Under this key every task is sent again once, however often that is asked for.
_ONCE = "redrive"
#: Seconds that the hub is asked to send one of them again.
_PATIENCE = 30.0


def _selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say which dead letters are meant."""
    for option in (
        click.option("--until", type=span, metavar="AGO", help="Only what was given up before that, such as 30m."),
        click.option("--since", type=span, metavar="AGO", help="Only what was given up since then, such as 2h or 7d."),
        click.option("--agent", shell_complete=completion.agents, help="Only tasks of this agent."),
        click.option("--reason", type=click.Choice(get_args(DeadReason)), help="Only what was given up for this."),
    ):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """List the tasks that the hub gave up, and send them again.

    The reasons: attempts, every run of the retry policy failed; poison, it lost so many workers that it may be what
    kills them; lease_lost, its worker was lost and it may not be run again; queue_ttl, it waited too long.
    """


@dead.command("list")
@_selecting
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most tasks to list.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def list_dead(*, limit: int, as_json: bool, **selection: Any) -> None:
    """List dead letters, newest first."""
    with open_hub() as hub:
        rows = list(_found(hub, limit, **selection))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
        return
    table(_HEADS, [_line(row) for row in rows], spare=_SPARE)
    if not rows:
        click.echo("no task was given up", err=True)


@dead.command()
@click.argument("task", shell_complete=completion.dead_tasks)
@click.option("--json", "as_json", is_flag=True, help="Print the row as a JSON object.")
def show(*, task: str, as_json: bool) -> None:
    """Show why TASK was given up, and how far it came.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    with open_hub() as hub:
        with chosen_task(hub, task) as task_id:
            row = hub.get_task(task_id)
        if row.dead_reason is None:
            raise ConfigurationError(f"the hub did not give the task {task_id} up: it is {row.state}")
    print_row(row, as_json=as_json)
    if as_json:
        return
    click.echo(as_typed_here(f"'blocks dead redrive {task_id}' sends it again"), err=True)


@dead.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=completion.dead_tasks)
@_selecting
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--yes", is_flag=True, help="Do not ask before many are sent again.")
@click.option("--no-steps", is_flag=True, help="Do again what the old tasks had done in their steps.")
@click.option("--key", default=_ONCE, show_default=True, help="Send each again once under this word.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a task: taskId and retryOf, or the error.")
def redrive(
    *,
    tasks: tuple[str, ...],
    everything: bool,
    yes: bool,
    no_steps: bool,
    key: str,
    as_json: bool,
    **selection: Any,
) -> None:
    """Send each TASK again, or all that the flags select, as new tasks with the same input.

    What was sent again before under the same --key is not sent once more: its new task is told instead. The old tasks
    stay as they are. The exit code is 1 when one of them could not be sent again; the others are.
    """
    is_selected = everything or any(value is not None for value in selection.values())
    if bool(tasks) is is_selected:
        raise click.UsageError("name tasks, or select them with --reason, --agent, --since, --until or --all")
    with errors_told(), TaskClient.create("free") as client:
        wanted = list(tasks) or [row.task_id for row in _found(client.api, None, **selection)]
        if not wanted:
            click.echo("no task was given up", err=True)
        if is_selected and len(wanted) > _FEW and not yes:
            confirmed(
                f"send {counted(len(wanted), 'task')} again?", "nothing was sent; --yes sends them without asking"
            )
        refused = [
            task for task in wanted if not _redriven(client, task, key, keep_steps=not no_steps, as_json=as_json)
        ]
    if refused:
        raise SystemExit(int(Exit.FAILED))


def _redriven(client: TaskClient, task: str, key: str, *, keep_steps: bool, as_json: bool) -> bool:
    try:
        with chosen_task(client.api, task) as task_id:
            new, before = _sent_again(client.api, task_id, f"{key}:{task_id}", keep_steps=keep_steps)
    except (RpcError, ConfigurationError) as error:
        if as_json:
            click.echo(json.dumps({"retryOf": task, "error": sentence(error)}))
        click.echo(f"blocks: {one_line(f'{task}: {as_typed_here(sentence(error))}')}", err=True)
        return False
    if as_json:
        click.echo(json.dumps({"taskId": new.task_id, "retryOf": task_id}))
    elif before:
        stands = f"task {task_id} was sent again before as {new.task_id}, which is {new.state}"
        click.echo(f"{stands}; --key NEW sends it once more")
    else:
        click.echo(f"task {task_id} goes on as {new.task_id}")
    return True


def _sent_again(hub: HubApi, task_id: str, key: str, *, keep_steps: bool) -> tuple[SubmitAnswer, bool]:
    """Return the task as which this one is sent again, and whether that is so since an earlier command."""
    clock, entropy = Clock(), Entropy()
    wish = RetryTask(task_id=entropy.uuid7(clock.wall_ms()), idempotency_key=key, keep_steps=keep_steps)
    deadline = Deadline(_PATIENCE, clock)
    new = repeated(
        lambda: hub.retry_task(task_id, wish, timeout=one_try(deadline)), deadline, clock=clock, entropy=entropy
    )
    # A repeat of our own whose first answer was lost finds the task that it made.
    return new, new.task_id != wish.task_id


def _found(
    hub: HubApi, limit: int | None, *, reason: str | None, agent: str | None, since: float | None, until: float | None
) -> Iterator[TaskRow]:
    """Yield dead letters, newest first, page by page; without a limit all of them."""
    now = Clock().wall_ms()
    first, last = (None if ago is None else now - int(ago * 1000) for ago in (since, until))
    cursor: str | None = None
    while limit is None or limit > 0:
        most = _PAGE if limit is None else min(limit, _PAGE)
        page = hub.list_tasks(agent=agent, dead=reason or "any", since=first, until=last, cursor=cursor, limit=most)
        yield from page.tasks
        limit = None if limit is None else limit - len(page.tasks)
        cursor = page.next
        if cursor is None:
            return


def _line(row: TaskRow) -> tuple[object, ...]:
    return (
        row.task_id,
        row.agent_name,
        row.dead_reason,
        moment(row.ended_time),
        row.attempt,
        ended_because(row),
    )
