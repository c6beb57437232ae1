"""Agents and instances as the registry shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from blocks_worker.protocol.codec import Wire
from blocks_worker.protocol.control import PROTOCOL_VERSION
from blocks_worker.protocol.leases import Process
from blocks_worker.protocol.tasks import MAX_REASON, BillingMode


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
    #: Release of its package; None before its first heartbeat with this hub process.
    sdk_version: str | None = None
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


class DrainInstance(Wire):
    """Ask an instance to finish what it has and end."""

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] | None = None


class InstanceList(Wire, omit_defaults=False):
    """Instances of one name: of several owners where the hub's owner asked; and their processes, as far as told."""

    instances: list[InstanceRow]
    processes: list[Process] = []


class RegisterAgent(Wire):
    """Put an agent in the registry, or change what the registry says of it; what is None stays."""

    agent_name: str
    card: dict[str, Any] | None = None
    billing_mode: BillingMode | None = None
    listing: Literal["public", "private"] | None = None
    description: str | None = None
    card_ref: str | None = None
    card_summary: str | None = None
