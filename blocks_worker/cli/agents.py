"""`blocks agents`: which agents the hub knows, and how their instances stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import open_hub
from blocks_worker.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.registry import AgentRow

_HEADS = ("AGENT", "INSTANCE", "STATE", "TASKS", "SLOTS", "DESCRIPTION")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def agents(*, as_json: bool) -> None:
    """List agents and their instances."""
    with open_hub() as hub:
        rows = list(_all(hub))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        table(_HEADS, [line for row in rows for line in _lines(row)])


def _all(hub: HubApi) -> Iterator[AgentRow]:
    page = hub.agents()
    yield from page.agents
    while page.next is not None:
        page = hub.agents(cursor=page.next)
        yield from page.agents


def _lines(row: AgentRow) -> list[tuple[object, ...]]:
    if not row.instances:
        return [(row.agent_name, "-", "no instance", 0, 0, row.description)]
    return [
        (row.agent_name, one.instance_id, one.state, one.active_tasks, one.concurrency, row.description)
        for one in row.instances
    ]
