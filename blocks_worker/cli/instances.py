"""`blocks instances`: which instances are there, how they stand, and when they were heard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import open_hub
from blocks_worker.cli.fleet import all_instances
from blocks_worker.cli.output import table
from blocks_worker.cli.task_ids import AGENTS_LISTED, unknown_told
from blocks_worker.concurrency import Clock

if TYPE_CHECKING:
    from blocks_worker.protocol.registry import InstanceRow

_HEADS = ("INSTANCE", "AGENT", "STATE", "SLOTS", "HEARD", "VERSION")
_SPARE = ("VERSION", "HEARD", "AGENT")


@click.command()
@click.option("--agent", help="Only instances of this agent.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def instances(*, agent: str | None, as_json: bool) -> None:
    """List instances: SLOTS in use of all, HEARD how many seconds ago, VERSION of blocks_worker."""
    with open_hub() as hub, unknown_told("agent", agent or "", cure=AGENTS_LISTED):
        rows = all_instances(hub, agent)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
        return
    now = Clock().wall_ms()
    table(_HEADS, [_line(row, now) for row in rows], spare=_SPARE)
    if not rows:
        click.echo(f"no instance found{f' of agent {agent!r}' if agent else ''}", err=True)


def _line(row: InstanceRow, now: int) -> tuple[object, ...]:
    heard = f"{max(0, now - row.last_seen) / 1000:.0f} s ago"
    slots = f"{row.active_tasks}/{row.concurrency}"
    return row.instance_id, row.agent_name, row.state, slots, heard, row.sdk_version or "-"
