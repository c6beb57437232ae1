"""`blocks task`: how one task stands, field by field."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.questions import choices
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.observability.redact import one_line

if TYPE_CHECKING:
    from blocks_worker.protocol.tasks import OpenQuestion, TaskRow

#: Fields that are times, beside those whose names say so.
_MOMENTS = frozenset({"deadline", "expiresAt", "queueUntil", "readyAt"})


@click.command()
@click.argument("task", shell_complete=completion.tasks)
@click.option("--json", "as_json", is_flag=True, help="Print the row as a JSON object.")
def task(*, task: str, as_json: bool) -> None:
    """Show how TASK stands: its state, its runs, its limits, why it ended. 'blocks watch' shows its events.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    with open_hub() as hub, chosen_task(hub, task) as task_id:
        row = hub.get_task(task_id)
    print_row(row, as_json=as_json)


def print_row(row: TaskRow, *, as_json: bool) -> None:
    """Print what the hub says of a task, a field a line; what it says nothing of is left out."""
    fields = {key: value for key, value in msgspec.to_builtins(row).items() if value is not None}
    if as_json:
        click.echo(json.dumps(fields, indent=2))
        return
    for key, value in fields.items():
        told = moment(value) if key.endswith("Time") or key in _MOMENTS else value
        if key == "question" and row.question is not None:
            told = _asked(row.question)
        click.echo(one_line(f"{key + ':':<18} {told}"))


def _asked(question: OpenQuestion) -> str:
    text = f"{question.ask_id}: {question.question}{choices(question.schema)}"
    return f"{text}, open until {moment(question.until)}"


def moment(unix_ms: int | None) -> str:
    """Return a time of the ledger as people and scripts read it, in UTC; a dash where there is none."""
    if unix_ms is None:
        return "-"
    return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).isoformat(timespec="seconds")
