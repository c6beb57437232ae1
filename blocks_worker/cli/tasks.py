"""`blocks tasks`: your tasks, newest first."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import open_hub
from blocks_worker.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.tasks import TaskRow

_HEADS = ("TASK", "AGENT", "STATE", "CREATED", "RUN", "ERROR")


@click.command()
@click.option("--state", help="Only tasks in this state.")
@click.option("--agent", help="Only tasks of this agent.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most tasks to list.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def tasks(*, state: str | None, agent: str | None, limit: int, as_json: bool) -> None:
    """List tasks, newest first."""
    with open_hub() as hub:
        rows = list(_newest(hub, state, agent, limit))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        table(_HEADS, [_line(row) for row in rows])


def _newest(hub: HubApi, state: str | None, agent: str | None, limit: int) -> Iterator[TaskRow]:
    """Yield rows page by page: a page may hold fewer than were asked for."""
    page = hub.list_tasks(state=state, agent=agent, limit=limit)
    while True:
        yield from page.tasks[:limit]
        limit -= len(page.tasks)
        if limit <= 0 or page.next is None:
            return
        page = hub.list_tasks(state=state, agent=agent, limit=limit, cursor=page.next)


def _line(row: TaskRow) -> tuple[object, ...]:
    created = datetime.fromtimestamp(row.created_time / 1000, tz=timezone.utc).isoformat(timespec="seconds")
    state = f"{row.state} (queued)" if row.queued else row.state
    return row.task_id, row.agent_name, state, created, row.attempt, row.error or row.reason
