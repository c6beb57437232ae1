"""Cold statements: the rows of the registry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, or_, select, update

from blocks_worker.hub.store.schema import agent, instance
from blocks_worker.protocol.lifecycle import INSTANCE_GONE, InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from blocks_worker.protocol.leases import ConnectRequest
    from blocks_worker.protocol.registry import RegisterAgent

#: What a row says that nobody connected for yet.
_SCALING = {"concurrency": 1, "expected_instances": 1, "max_pending_backlog": 10_000, "max_running_time_sec": 3600}


@dataclass(frozen=True, kw_only=True)
class AgentFilter:
    """Say which agents are wanted, and who asks: private ones are shown to their owner only."""

    asking: str | None = None
    listing: str | None = None
    tag: str | None = None


def find(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of an agent."""
    return connection.execute(select(agent).where(agent.c.name == name)).first()


def connect(connection: Connection, owner: str, request: ConnectRequest, *, listing: str, now: int) -> bool:
    """Write what a connecting instance says of its agent; tell whether the name is the owner's to use.

    Billing mode and listing are taken from the first one only: later the row decides.
    """
    first = {
        "billing_mode": request.billing_mode or "free",
        "listing": request.listing or listing,
        "card_ref": request.card_ref,
        "card_summary": request.card_summary,
    }
    said = {
        "concurrency": request.concurrency,
        "expected_instances": request.expected_instances,
        "max_pending_backlog": request.max_pending_backlog,
        "max_running_time_sec": request.max_running_time_sec,
        "delivery": request.delivery,
        "concurrency_limit": request.concurrency_limit,
        "progress_timeout_sec": request.progress_timeout_sec,
        **_of_card(request.card),
    }
    if request.description is not None:
        said["description"] = request.description
    return _put(connection, request.agent_name, owner, said=said, first=first, now=now)


def register(connection: Connection, owner: str, request: RegisterAgent, *, listing: str, now: int) -> bool:
    """Write what the owner says of an agent; tell whether the name is the owner's to use."""
    given = {
        "billing_mode": request.billing_mode,
        "listing": request.listing,
        "card_ref": request.card_ref,
        "card_summary": request.card_summary,
        "description": request.description,
    }
    said = _of_card(request.card) | {name: value for name, value in given.items() if value is not None}
    first = {"billing_mode": "free", "listing": listing, "delivery": "at_least_once", **_SCALING}
    return _put(connection, request.agent_name, owner, said=said, first=first, now=now)


def set_offline(connection: Connection, name: str, *, offline: bool) -> None:
    """Keep an agent's instances out, or let them in again."""
    connection.execute(update(agent).where(agent.c.name == name).values(offline=offline))


def remove(connection: Connection, owner: str, name: str) -> bool:
    """Take the owner's agent out of the registry; tell whether it was there."""
    return connection.execute(delete(agent).where(agent.c.name == name, agent.c.owner == owner)).rowcount == 1


def page(connection: Connection, wanted: AgentFilter, *, after: str, limit: int) -> tuple[Sequence[Row[Any]], int]:
    """Return agents in order of their names, behind one name, and how many there are in all."""
    conditions = _conditions(wanted)
    total = connection.execute(select(func.count()).select_from(agent).where(*conditions)).scalar_one()
    rows = select(agent).where(*conditions, agent.c.name > after).order_by(agent.c.name).limit(limit)
    return connection.execute(rows).all(), total


def runs(connection: Connection, name: str) -> bool:
    """Tell whether an instance of the agent is there that does not drain."""
    serving = [state.value for state in InstanceState if state not in {*INSTANCE_GONE, InstanceState.DRAINING}]
    found = select(instance.c.agent_id).where(
        instance.c.agent == name, instance.c.ended.is_(None), instance.c.state.in_(serving)
    )
    return connection.execute(found.limit(1)).first() is not None


def _put(
    connection: Connection, name: str, owner: str, *, said: Mapping[str, Any], first: Mapping[str, Any], now: int
) -> bool:
    row = find(connection, name)
    if row is not None and row.owner != owner:
        return False
    if row is None:
        fresh = {"name": name, "owner": owner, "description": "", "tags": "[]", "registered_at": now, "updated": now}
        connection.execute(insert(agent).values(fresh | dict(first) | dict(said)))
    else:
        connection.execute(update(agent).where(agent.c.name == name).values({**said, "updated": now}))
    return True


def _of_card(card: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns that a card fills."""
    if card is None:
        return {}
    found: dict[str, Any] = {"card": json.dumps(card), "tags": json.dumps(_tags(card))}
    identity = card.get("identity")
    if isinstance(identity, dict) and isinstance(identity.get("description"), str):
        found["description"] = identity["description"]
    return found


def _tags(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the card's tags, each as an object with an id and a name."""
    tags = card.get("tags", card.get("skills"))
    said = tags if isinstance(tags, list) else []
    return [{"id": tag, "name": tag} if isinstance(tag, str) else tag for tag in said if isinstance(tag, (str, dict))]


def _conditions(wanted: AgentFilter) -> list[ColumnElement[bool]]:
    conditions = [or_(agent.c.listing == "public", agent.c.owner == (wanted.asking or ""))]
    if wanted.listing is not None:
        conditions.append(agent.c.listing == wanted.listing)
    if wanted.tag is not None:
        tags = func.json_each(agent.c.tags).table_valued("value")
        names = [func.json_extract(tags.c.value, path) for path in ("$.id", "$.name")]
        conditions.append(select(tags.c.value).where(or_(*(name == wanted.tag for name in names))).exists())
    return conditions
