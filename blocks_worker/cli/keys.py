"""`blocks keys`: make API keys, list them, take them back."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import enter_hub
from blocks_worker.cli.output import table
from blocks_worker.cli.task_ids import unknown_told
from blocks_worker.protocol.credentials import MAX_KEY_NAME, CreateKey

if TYPE_CHECKING:
    from blocks_worker.protocol.credentials import KeyRow

_HEADS = ("ID", "NAME", "OWNER", "CREATED", "LAST USED", "STATE")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option("--owner", help="Whose the key is; only with this machine's own key.  [default: the caller]")
@click.option("--json", "as_json", is_flag=True, help="Print the key with its row as a JSON object.")
def create(*, name: str, owner: str | None, as_json: bool) -> None:
    """Make an API key called NAME and print it, this once."""
    if not 1 <= len(name) <= MAX_KEY_NAME:
        raise click.BadParameter(f"a name has 1 to {MAX_KEY_NAME} characters", param_hint="NAME")
    with enter_hub() as (hub, api_key):
        made = hub.create_key(api_key, CreateKey(name=name, owner=owner))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(made), indent=2))
        return
    click.echo(made.key)
    click.echo(f"blocks: {made.id} of {made.owner}; the key is shown this once, the hub keeps its hash only", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON list.")
def list_keys(*, as_json: bool) -> None:
    """List API keys, oldest first."""
    with enter_hub() as (hub, api_key):
        rows = hub.keys(api_key)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        table(_HEADS, [_line(row) for row in rows])


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(*, key_id: str) -> None:
    """Take the key ID back: its tokens count no more, its workers end with exit code 77."""
    cure = "'blocks keys list' shows their ids"
    with enter_hub() as (hub, api_key), unknown_told("key", key_id, cure=cure):
        hub.revoke_key(api_key, key_id)
    click.echo(f"{key_id} revoked")


def _line(row: KeyRow) -> tuple[object, ...]:
    state = "revoked" if row.revoked else "in force"
    used = "never" if row.last_used is None else _moment(row.last_used)
    return row.id, row.name, row.owner, _moment(row.created), used, state


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).isoformat(timespec="seconds")
