"""`blocks agents`: which agents the hub knows, how their instances stand, and who is kept out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.fleet import all_agents
from blocks_worker.cli.output import table
from blocks_worker.cli.task_ids import AGENTS_LISTED, unknown_told

if TYPE_CHECKING:
    from blocks_worker.protocol.registry import AgentRow

_HEADS = ("AGENT", "INSTANCE", "STATE", "TASKS", "SLOTS", "DESCRIPTION")
#: What gives way on a narrow terminal; names and ids never do: they are there to be copied.
_SPARE = ("DESCRIPTION", "TASKS", "SLOTS", "STATE")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
@click.pass_context
def agents(ctx: click.Context, *, as_json: bool) -> None:
    """List agents and their instances."""
    if ctx.invoked_subcommand is not None:
        return
    with open_hub() as hub:
        rows = list(all_agents(hub))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        table(_HEADS, [line for row in rows for line in _lines(row)], spare=_SPARE)


@agents.command()
@click.argument("name", shell_complete=completion.agents)
def offline(*, name: str) -> None:
    """End the instances of agent NAME and keep them out; its tasks wait."""
    _turn(name, offline=True)


@agents.command()
@click.argument("name", shell_complete=completion.agents)
def online(*, name: str) -> None:
    """Let instances of agent NAME in again."""
    _turn(name, offline=False)


def _turn(name: str, *, offline: bool) -> None:
    with open_hub() as hub, unknown_told("agent", name, cure=AGENTS_LISTED):
        row = hub.set_offline(name, offline=offline)
    click.echo(f"{row.agent_name} is {'offline' if row.offline else 'online'}")


def _lines(row: AgentRow) -> list[tuple[object, ...]]:
    if not row.instances:
        state = "offline" if row.offline else "no instance"
        return [(row.agent_name, "-", state, 0, 0, row.description)]
    return [
        (row.agent_name, one.instance_id, one.state, one.active_tasks, one.concurrency, row.description)
        for one in row.instances
    ]
