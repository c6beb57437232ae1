"""`blocks keys`: make API keys, list them, take them back, and change the secret behind the hub's tokens."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import enter_hub
from blocks_worker.cli.output import table
from blocks_worker.cli.task_ids import matching, unknown_told
from blocks_worker.controlplane.signing import rotate_signing_key
from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.credentials import MAX_KEY_NAME, CreateKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.protocol.credentials import KeyRow

_HEADS = ("ID", "NAME", "OWNER", "CREATED", "LAST USED", "STATE")
#: What gives way on a narrow terminal; the id never does: it is there to be copied.
_SPARE = ("CREATED", "LAST USED", "OWNER", "NAME")
#: How every id begins: that alone tells no key from another.
_BEGIN = "key_"
#: Characters of a part of an id besides it, and how many candidates a sentence names.
_LEAST, _NAMED = 4, 3


@click.group()
def keys() -> None:
    """Make, list and revoke API keys, and change the hub's signing secret."""


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
        table(_HEADS, [_line(row) for row in rows], spare=_SPARE)


@keys.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print the key's row as a JSON object.")
def revoke(*, key: str, as_json: bool) -> None:
    """Take KEY back: its tokens count no more, its workers end with exit code 77.

    KEY is an id, or its beginning or end as far as no other key has the same, or the name of a key in force.
    """
    with enter_hub() as (hub, api_key), unknown_told("key", key, cure="'blocks keys list' shows their ids"):
        row = found_key(hub.keys(api_key), key)
        key_id = key if row is None else row.id
        hub.revoke_key(api_key, key_id)
    if as_json:
        known = {"id": key_id} if row is None else msgspec.to_builtins(row)
        click.echo(json.dumps({**known, "revoked": True}, indent=2))
    else:
        click.echo(f"{key_id} revoked")


@keys.command("rotate-secret")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the keys that count as a JSON list, without their secrets."
)
def rotate_secret(*, as_json: bool) -> None:
    """Have the hub sign tokens with a new secret, while everything goes on.

    What it signed before stays good until it ends by itself. Only this machine's own key may do it.
    """
    with enter_hub() as (hub, api_key):
        found = rotate_signing_key(hub, api_key)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    click.echo(f"{found[0].id} signs from now on")
    for row in found[1:]:
        click.echo(f"{row.id} counts until {_moment(row.until or 0)}")


def found_key(rows: Sequence[KeyRow], text: str) -> KeyRow | None:
    """Return the key that a person means; None where none is called so: the hub says that.

    Raises:
        ConfigurationError: several are.
    """
    named = [row for row in rows if row.name == text and not row.revoked]
    ids = matching(text, [row.id for row in rows]) if len(text.removeprefix(_BEGIN)) >= _LEAST else []
    exact = [row for row in rows if row.id == text]
    found = exact or named or [row for row in rows if row.id in ids]
    if len(found) > 1:
        some = ", ".join(row.id for row in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise ConfigurationError(f"{len(found)} keys are called {text!r}: {some}; write more of the id")
    return found[0] if found else None


def _line(row: KeyRow) -> tuple[object, ...]:
    state = "revoked" if row.revoked else "in force"
    used = "never" if row.last_used is None else _moment(row.last_used)
    return row.id, row.name, row.owner, _moment(row.created), used, state


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).isoformat(timespec="seconds")
