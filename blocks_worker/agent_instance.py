"""Import path of the provider's entry: start an instance of an agent."""

from blocks_worker.runtime.instance import AgentInstance, start_agent_instance
from blocks_worker.runtime.options import AgentInstanceOptions

__all__ = ["AgentInstance", "AgentInstanceOptions", "start_agent_instance"]
