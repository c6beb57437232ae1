"""`blocks pause` and `blocks resume`: have a task wait, and go on, whoever sent it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blocks_worker.cli import completion
from blocks_worker.cli.access import errors_told
from blocks_worker.cli.output import as_typed_here
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.client.client import TaskClient
from blocks_worker.protocol.lifecycle import PAUSED, SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNNING = "running"


@click.command()
@click.argument("task", shell_complete=completion.tasks_under_way)
@click.option("--json", "as_json", is_flag=True, help="Print id and state as one JSON object.")
def pause(*, task: str, as_json: bool) -> None:
    """Ask TASK to wait until it is resumed. Limits of time go on; one that is over stays as it is.

    One that nobody runs is given to nobody. The handler of one that runs waits where it calls
    ctx.wait_while_paused(), and only there: one that never does goes on.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    _turn(task, TaskClient.pause_task, _asked_to_wait, as_json=as_json)


@click.command()
@click.argument("task", shell_complete=completion.tasks_under_way)
@click.option("--json", "as_json", is_flag=True, help="Print id and state as one JSON object.")
def resume(*, task: str, as_json: bool) -> None:
    """Have TASK go on. One that is not paused, or is over, stays as it is.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    _turn(task, TaskClient.resume_task, lambda task_id, _state: f"task {task_id} is to go on", as_json=as_json)


def _asked_to_wait(task_id: str, state: str) -> str:
    if state == PAUSED:
        return f"task {task_id} is paused"
    follow = as_typed_here(f"'blocks watch {task_id}'")
    if state == _RUNNING:
        looks = "its handler does so when it calls ctx.wait_while_paused(), and goes on if it never does"
        return f"task {task_id} was asked to wait: {looks}; {follow} shows when it waits"
    return f"task {task_id} was asked to wait; {follow} shows when it does"


def _turn(task: str, turn: Callable[[TaskClient, str], str], told: Callable[[str, str], str], *, as_json: bool) -> None:
    with errors_told(), TaskClient.create("free") as client, chosen_task(client.api, task) as task_id:
        state = turn(client, task_id)
    if as_json:
        click.echo(json.dumps({"taskId": task_id, "state": state}))
    elif state in SHOWN_TERMINAL:
        click.echo(f"task {task_id} was over before: {state}")
    else:
        click.echo(told(task_id, state))
