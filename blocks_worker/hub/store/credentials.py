"""Cold statements: API keys and refresh tokens, both kept as hashes only.

A key is called by the beginning of its hash, which tells nothing of the key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from blocks_worker.hub.store.schema import api_key, refresh_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

#: Milliseconds for which a used refresh token is kept, to tell a repeated one from an unknown one.
USED_KEPT = 86_400_000
#: Characters of a key's hash that name it.
_ID_LENGTH = 16


@dataclass(frozen=True)
class KeyFacts:
    """Be what the ledger knows of an API key. Times are unix milliseconds."""

    id: str
    owner: str
    name: str
    created: int
    last_used: int | None
    revoked: bool


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


def is_revoked(connection: Connection, digest: str) -> bool:
    """Tell whether this was an API key once."""
    taken_back = select(api_key.c.hash).where(api_key.c.hash == digest, api_key.c.revoked.is_(True))
    return connection.execute(taken_back).first() is not None


def key_id(digest: str) -> str:
    """Return the name of the key with this hash."""
    return f"key_{digest[:_ID_LENGTH]}"


def note_use(connection: Connection, digest: str, now: int) -> None:
    """Note that a key was traded for tokens."""
    connection.execute(update(api_key).where(api_key.c.hash == digest).values(last_used=now))


def keys(connection: Connection, *, owner: str | None = None, key: str | None = None) -> list[KeyFacts]:
    """Return the keys, oldest first: all, or those of one owner, or the one of this id."""
    query = select(api_key).order_by(api_key.c.created, api_key.c.hash)
    if owner is not None:
        query = query.where(api_key.c.owner == owner)
    if key is not None:
        query = query.where(func.substr(api_key.c.hash, 1, _ID_LENGTH) == key.removeprefix("key_"))
    return [
        KeyFacts(key_id(row.hash), row.owner, row.name, row.created, row.last_used, row.revoked)
        for row in connection.execute(query)
    ]


def revoke(connection: Connection, key: str) -> None:
    """Take a key back for good; its row stays, so that it is known as revoked."""
    named = func.substr(api_key.c.hash, 1, _ID_LENGTH) == key.removeprefix("key_")
    connection.execute(update(api_key).where(named).values(revoked=True))


def revoked_ids(connection: Connection) -> list[str]:
    """Return the ids of all keys that were taken back."""
    found = connection.execute(select(api_key.c.hash).where(api_key.c.revoked.is_(True)))
    return [key_id(digest) for (digest,) in found]


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
