"""Import path of the registry's functions."""

from blocks_worker.client.registry import (
    AgentConnection,
    AgentEntry,
    AgentScaling,
    ConnectAgentOptions,
    connect_agent,
    fetch_agent_registry,
    fetch_agents_by_listing,
    fetch_agents_by_skill,
    fetch_agents_by_tag,
    get_agent,
    remove_agent,
)

__all__ = [
    "AgentConnection",
    "AgentEntry",
    "AgentScaling",
    "ConnectAgentOptions",
    "connect_agent",
    "fetch_agent_registry",
    "fetch_agents_by_listing",
    "fetch_agents_by_skill",
    "fetch_agents_by_tag",
    "get_agent",
    "remove_agent",
]
