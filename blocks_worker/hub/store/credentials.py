"""Cold statements: API keys and refresh tokens, both kept as hashes only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from blocks_worker.hub.store.schema import api_key, refresh_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

#: Milliseconds for which a used refresh token is kept, to tell a repeated one from an unknown one.
USED_KEPT = 86_400_000


@dataclass(frozen=True)
class RefreshRow:
    """Be what a refresh token stands for; `fresh` is false when it was used before."""

    kind: str
    subject: Mapping[str, str]
    fresh: bool


def add_key(connection: Connection, digest: str, *, owner: str, name: str, now: int) -> None:
    """Let an API key in; one that is there already stays as it is."""
    known = connection.execute(select(api_key.c.hash).where(api_key.c.hash == digest)).first()
    if known is None:
        row = {"hash": digest, "owner": owner, "name": name, "created": now, "revoked": False}
        connection.execute(insert(api_key).values(row))


def owner_of_key(connection: Connection, digest: str) -> str | None:
    """Return whose API key this is; None when it is unknown or revoked."""
    wanted = select(api_key.c.owner).where(api_key.c.hash == digest, api_key.c.revoked.is_(False))
    owner: str | None = connection.execute(wanted).scalar()
    return owner


def keep_refresh(
    connection: Connection, digest: str, *, kind: str, subject: Mapping[str, str], expires: int, now: int
) -> None:
    """Keep a refresh token until it expires, and forget those of which nobody asks any more."""
    connection.execute(delete(refresh_token).where(refresh_token.c.expires < now))
    row = {"hash": digest, "kind": kind, "subject": json.dumps(dict(subject)), "expires": expires}
    connection.execute(insert(refresh_token).values(row | {"created": now, "used": False}))


def use_refresh(connection: Connection, digest: str, now: int) -> RefreshRow | None:
    """Use a refresh token up and return what it stands for; None when it is unknown or expired."""
    columns = refresh_token.c
    live = (columns.hash == digest, columns.expires >= now)
    row = connection.execute(select(columns.kind, columns.subject).where(*live)).first()
    if row is None:
        return None
    used = {"used": True, "expires": now + USED_KEPT}
    taken = connection.execute(update(refresh_token).where(*live, columns.used.is_(False)).values(used))
    return RefreshRow(row.kind, json.loads(row.subject), fresh=taken.rowcount == 1)
