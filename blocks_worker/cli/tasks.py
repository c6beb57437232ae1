"""`blocks tasks`: your tasks, newest first."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.output import table
from blocks_worker.cli.task_ids import AGENTS_LISTED, unknown_told
from blocks_worker.concurrency import Clock
from blocks_worker.errors import ended_because
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.lifecycle import NAMES, SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.tasks import TaskRow

_HEADS = ("TASK", "AGENT", "STATE", "CREATED", "RUN", "ERROR")
#: What gives way on a narrow terminal, the first one first; the id never does: it is there to be copied.
_SPARE = ("ERROR", "RUN", "CREATED", "AGENT", "STATE")
_STATES = ", ".join(sorted(NAMES))
_DAY_MS = 86_400_000


@click.command()
@click.option("--state", type=click.Choice(sorted(NAMES)), metavar="STATE", help=f"Only tasks that are {_STATES}.")
@click.option("--agent", shell_complete=completion.agents, help="Only tasks of this agent.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most tasks to list.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def tasks(*, state: str | None, agent: str | None, limit: int, as_json: bool) -> None:
    """List your tasks, newest first.

    On a terminal CREATED is your local time, and what does not fit is left out; a pipe gets every column in full.
    """
    with open_hub() as hub:
        rows = list(_newest(hub, state, agent, limit))
        if agent is not None and not rows:
            with unknown_told("agent", agent, cure=AGENTS_LISTED):
                hub.agent(agent)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        line = _line_for_people if sys.stdout.isatty() else _line
        table(_HEADS, [line(row) for row in rows], spare=_SPARE)
    if not rows:
        told = [f"{name} {value!r}" for name, value in (("agent", agent), ("state", state)) if value]
        click.echo(one_line(f"no task found{' of ' if told else ''}{' and '.join(told)}"), err=True)


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
    return row.task_id, row.agent_name, state, created, row.attempt, _why(row)


def _why(row: TaskRow) -> str | None:
    """Return why a task ended as it did; one that goes on has failed at nothing, and says how its last run did."""
    return ended_because(row) if row.state in SHOWN_TERMINAL else row.error


def _line_for_people(row: TaskRow) -> tuple[object, ...]:
    created = datetime.fromtimestamp(row.created_time / 1000, tz=timezone.utc).astimezone()
    is_recent = Clock().wall_ms() - row.created_time < _DAY_MS
    moment = created.strftime("%H:%M:%S" if is_recent else "%Y-%m-%d")
    return (
        row.task_id,
        row.agent_name,
        "queued" if row.queued else row.state,
        moment,
        row.attempt,
        _why(row),
    )
