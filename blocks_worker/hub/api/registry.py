"""The doors of the registry: which agents there are, and which of their instances run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.api.auth import LOCAL_OWNER
from blocks_worker.hub.api.batches import written
from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.cards import check_card_of
from blocks_worker.hub.problems import CONFLICT, RefusalError, not_found
from blocks_worker.hub.store import agents
from blocks_worker.hub.store.agents import AgentFilter
from blocks_worker.protocol import codec
from blocks_worker.protocol.channels import AGENT, check_name
from blocks_worker.protocol.registry import (
    AgentAnswer,
    AgentPage,
    AgentRow,
    DrainInstance,
    InstanceList,
    RegisterAgent,
)

if TYPE_CHECKING:
    from sqlalchemy import Row

    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store

PAGE = 100
LARGEST_PAGE = 500

_OK = 200
_CREATED = 201
_ACCEPTED = 202
_NO_CONTENT = 204


class RegistryDoors:
    """Show agents to all who may see them, and let owners write their rows."""

    def __init__(self, *, store: Store, instances: InstanceService, guard: Guard, steady: SteadyClock) -> None:
        self._store = store
        self._instances = instances
        self._guard = guard
        self._steady = steady

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("GET", "/api/v1/registry/agents", self.show, gives=AgentAnswer | AgentPage),
            Door("POST", "/api/v1/registry/agents", self.register, takes=RegisterAgent, gives=AgentAnswer),
            Door("DELETE", "/api/v1/registry/agents", self.remove),
            Door("POST", "/api/v1/registry/agents/{name}/offline", self.offline, gives=AgentAnswer),
            Door("POST", "/api/v1/registry/agents/{name}/online", self.online, gives=AgentAnswer),
            Door("POST", "/api/v1/registry/instances/{id}/drain", self.drain, takes=DrainInstance, gives=InstanceList),
        ]

    async def show(self, call: Call) -> Answer:
        """Show one agent, or a page of them.

        Query: agentName, listing, tag, include, cursor, limit
        Who: anybody; private ones the consumer who owns them
        Answers: 200 · 404
        """
        asking = self._asking(call)
        query = call.query
        name = query.get("agentName")
        if name is not None:
            return Answer(_OK, codec.encode(self._store.read(lambda ledger: self._one(ledger, asking, name))))
        wanted = AgentFilter(asking=asking, listing=query.get("listing"), tag=query.get("tag"))
        limit = call.number("limit", PAGE, low=1, high=LARGEST_PAGE)
        after, full = query.get("cursor", ""), query.get("include") == "full"
        return Answer(
            _OK,
            codec.encode(
                self._store.read(lambda ledger: self._page(ledger, wanted, after=after, limit=limit, full=full))
            ),
        )

    async def register(self, call: Call) -> Answer:
        """Write the row of the caller's own agent.

        Who: consumer
        Answers: 201 · 200 · 400, a wrong card · 409 name is somebody else's
        """
        owner = self._guard.consumer(call.bearer).owner
        request = codec.decode(RegisterAgent, call.body)
        check_name("agentName", request.agent_name, AGENT)
        check_card_of(request.card)
        fresh, row = await written(self._store, lambda ledger: self._register(ledger, owner, request))
        return Answer(_CREATED if fresh else _OK, codec.encode(AgentAnswer(agent=row)))

    async def remove(self, call: Call) -> Answer:
        """Take the caller's own agent out of the registry.

        Query: agentName
        Who: consumer
        Answers: 204 · 404 · 409 `AgentHasTasks`: with the row the name is anybody's, so its tasks have to end before
        """
        owner = self._guard.consumer(call.bearer).owner
        name = call.query.get("agentName", "")
        await written(self._store, lambda ledger: _remove(ledger, owner, name))
        return Answer(_NO_CONTENT, b"")

    async def offline(self, call: Call) -> Answer:
        """End an agent's instances and keep them out; its tasks wait.

        Who: consumer, the agent's owner or the hub's
        Answers: 200 · 404
        """
        return await self._turned(call, offline=True)

    async def online(self, call: Call) -> Answer:
        """Let an agent's instances in again.

        Who: consumer, the agent's owner or the hub's
        Answers: 200 · 404
        """
        return await self._turned(call, offline=False)

    async def drain(self, call: Call) -> Answer:
        """Ask the instances of a name to finish what they have and end; nothing is offered to them any more.

        Who: consumer, the instance's owner or the hub's
        Answers: 202 the instances as they stand, and their processes · 404
        """
        owner, request = self._guard.consumer(call.bearer).owner, codec.decode(DrainInstance, call.body or b"{}")
        wanted = call.path["id"]
        asked = await written(self._store, lambda ledger: self._drain(ledger, owner, wanted, request.reason))
        return Answer(_ACCEPTED, codec.encode(asked))

    async def _turned(self, call: Call, *, offline: bool) -> Answer:
        owner, name = self._guard.consumer(call.bearer).owner, call.path["name"]
        row = await written(self._store, lambda ledger: self._turn(ledger, owner, name, offline=offline))
        return Answer(_OK, codec.encode(AgentAnswer(agent=row)))

    def _drain(self, ledger: Ledger, owner: str, name: str, reason: str | None) -> InstanceList:
        asked = self._instances.drain(ledger, None if owner == LOCAL_OWNER else owner, name, reason)
        if not asked.instances:
            raise not_found()
        ledger.noted("instance_drained", by=owner, instance=name)
        return asked

    def _turn(self, ledger: Ledger, owner: str, name: str, *, offline: bool) -> AgentRow:
        found = agents.find(ledger.connection, name)
        if found is None or owner not in {found.owner, LOCAL_OWNER}:
            raise not_found()
        agents.set_offline(ledger.connection, name, offline=offline)
        ledger.noted("agent_offline" if offline else "agent_online", by=owner, agent=name)
        if offline:
            self._instances.end_of_agent(ledger, name)
        return self._shown(ledger, agents.find(ledger.connection, name) or found, full=True)

    def _asking(self, call: Call) -> str | None:
        """Return who asks; anybody may, but a token that is sent has to be good."""
        return None if call.bearer is None else self._guard.consumer(call.bearer).owner

    def _one(self, ledger: Ledger, asking: str | None, name: str) -> AgentAnswer:
        row = agents.find(ledger.connection, name)
        if row is None or (row.listing != "public" and row.owner != asking):
            raise not_found()
        return AgentAnswer(agent=self._shown(ledger, row, full=True))

    def _page(self, ledger: Ledger, wanted: AgentFilter, *, after: str, limit: int, full: bool) -> AgentPage:
        rows, total = agents.page(ledger.connection, wanted, after=after, limit=limit + 1)
        shown = [self._shown(ledger, row, full=full) for row in rows[:limit]]
        return AgentPage(agents=shown, next=shown[-1].agent_name if len(rows) > limit else None, total_count=total)

    def _register(self, ledger: Ledger, owner: str, request: RegisterAgent) -> tuple[bool, AgentRow]:
        fresh = agents.find(ledger.connection, request.agent_name) is None
        listing = "public" if owner == LOCAL_OWNER else "private"
        now = self._steady.now_ms()
        if not agents.register(ledger.connection, owner, request, listing=listing, now=now):
            text = f"the agent name {request.agent_name!r} belongs to somebody else: choose another"
            raise RefusalError(CONFLICT, "AgentNameReserved", text)
        ledger.noted("agent_registered", by=owner, agent=request.agent_name)
        row = agents.find(ledger.connection, request.agent_name)
        if row is None:
            raise RuntimeError("an agent that was just written has a row")
        return fresh, self._shown(ledger, row, full=True)

    def _shown(self, ledger: Ledger, row: Row[Any], *, full: bool) -> AgentRow:
        card = json.loads(row.card) if row.card else None
        return AgentRow(
            agent_name=row.name,
            name=_display_name(card) or row.name,
            description=row.description,
            tags=json.loads(row.tags),
            scaling={
                "concurrency": row.concurrency,
                "expectedInstances": row.expected_instances,
                "maxPendingBacklog": row.max_pending_backlog,
                **({} if row.concurrency_limit is None else {"concurrencyLimit": row.concurrency_limit}),
            },
            billing_mode=row.billing_mode,
            listing=row.listing,
            registered_at=row.registered_at,
            card=card if full else None,
            card_ref=row.card_ref,
            card_summary=row.card_summary,
            offline=row.offline,
            instances=self._instances.instances(ledger, row.name) if full else [],
        )


def _remove(ledger: Ledger, owner: str, name: str) -> None:
    """Remove the row; with it the name is anybody's, so no task may wait under it."""
    if not agents.remove(ledger.connection, owner, name):
        raise not_found()
    if ledger.has_tasks(name):
        text = f"tasks of {name!r} have not ended: cancel them, or wait for their end"
        raise RefusalError(CONFLICT, "AgentHasTasks", text)
    ledger.noted("agent_removed", by=owner, agent=name)


def _display_name(card: dict[str, Any] | None) -> str | None:
    identity = card.get("identity") if card else None
    name = identity.get("displayName") if isinstance(identity, dict) else None
    return name if isinstance(name, str) else None
