"""`blocks pause` and `blocks resume`: have a task wait, and go on, whoever sent it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blocks_worker.cli.access import errors_told
from blocks_worker.cli.output import as_typed_here
from blocks_worker.cli.task_ids import found_task
from blocks_worker.client.client import TaskClient
from blocks_worker.protocol.lifecycle import PAUSED, SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command()
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print id and state as one JSON object.")
def pause(*, task: str, as_json: bool) -> None:
    """Ask TASK to wait until it is resumed. Limits of time go on; one that is over stays as it is.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    task_id, state = _turned(task, TaskClient.pause_task)
    if as_json:
        _print_json(task_id, state)
    elif state in SHOWN_TERMINAL:
        click.echo(f"task {task_id} was over before: {state}")
    elif state == PAUSED:
        click.echo(f"task {task_id} is paused")
    else:
        follow = as_typed_here(f"'blocks watch {task_id}'")
        click.echo(f"task {task_id} was asked to wait; {follow} shows when it does")


@click.command()
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print id and state as one JSON object.")
def resume(*, task: str, as_json: bool) -> None:
    """Have TASK go on. One that is not paused, or is over, stays as it is.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    task_id, state = _turned(task, TaskClient.resume_task)
    if as_json:
        _print_json(task_id, state)
    elif state in SHOWN_TERMINAL:
        click.echo(f"task {task_id} was over before: {state}")
    else:
        click.echo(f"task {task_id} is to go on")


def _turned(task: str, turn: Callable[[TaskClient, str], str]) -> tuple[str, str]:
    with errors_told(), TaskClient.create("free") as client:
        task_id = found_task(client.api, task)
        return task_id, turn(client, task_id)


def _print_json(task_id: str, state: str) -> None:
    click.echo(json.dumps({"taskId": task_id, "state": state}))
