"""Agents and instances as the registry shows them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from blocks_worker.protocol.codec import Wire
from blocks_worker.protocol.control import PROTOCOL_VERSION
from blocks_worker.protocol.tasks import BillingMode


class InstanceRow(Wire, omit_defaults=False):
    """An instance as others may see it. Times are unix milliseconds."""

    instance_id: str
    agent_name: str
    state: str
    active_tasks: int
    concurrency: int
    started_at: int
    last_seen: int
    active_streams: int = 0
    protocol_versions: list[str] = msgspec.field(default_factory=lambda: [PROTOCOL_VERSION])
    preferred_protocol_version: str = PROTOCOL_VERSION


class AgentRow(Wire, omit_defaults=False):
    """An agent as the registry shows it."""

    agent_name: str
    name: str
    description: str
    tags: list[Any]
    scaling: dict[str, int]
    billing_mode: str
    listing: str
    registered_at: int
    card: dict[str, Any] | None = None
    card_ref: str | None = None
    card_summary: str | None = None
    #: Kept out by its owner: its instances are refused, its tasks wait.
    offline: bool = False
    instances: list[InstanceRow] = []


class AgentPage(Wire, omit_defaults=False):
    """One page of agents by name; `next` is the cursor of the page after it."""

    agents: list[AgentRow]
    next: str | None
    total_count: int | None = None


class AgentAnswer(Wire, omit_defaults=False):
    """One agent."""

    agent: AgentRow


class RegisterAgent(Wire):
    """Put an agent in the registry, or change what the registry says of it; what is None stays."""

    agent_name: str
    card: dict[str, Any] | None = None
    billing_mode: BillingMode | None = None
    listing: Literal["public", "private"] | None = None
    description: str | None = None
    card_ref: str | None = None
    card_summary: str | None = None
