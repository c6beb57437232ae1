"""Agents and instances of a hub, all pages of them, and which instance a person means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.cli.task_ids import LEAST, matching
from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.registry import AgentRow, InstanceRow

#: How many candidates a sentence names.
_NAMED = 3


def all_agents(hub: HubApi) -> Iterator[AgentRow]:
    """Yield every agent that the caller may see, with its instances."""
    page = hub.agents()
    yield from page.agents
    while page.next is not None:
        page = hub.agents(cursor=page.next)
        yield from page.agents


def all_instances(hub: HubApi, agent: str | None = None) -> list[InstanceRow]:
    """Return the instances that the caller may see, or those of one agent.

    Raises:
        RpcError: the hub knows no such agent.
    """
    if agent is not None:
        return hub.agent(agent).instances
    return [one for row in all_agents(hub) for one in row.instances]


def found_instance(hub: HubApi, text: str) -> str:
    """Return the id of the instance that is called so, or begins or ends so.

    Raises:
        ConfigurationError: none or several do, or the text is too short to say which.
    """
    return instance_called(text, sorted({one.instance_id for one in all_instances(hub)}))


def instance_called(text: str, ids: Sequence[str]) -> str:
    """Return which of the ids is meant.

    Raises:
        ConfigurationError: none or several are, or the text is too short to say which.
    """
    if text in ids:
        return text
    # A script's variable that is not set is the beginning of every id.
    if len(text) < LEAST:
        raise ConfigurationError(
            f"no instance is called {text!r}; write a whole id, or at least {LEAST} characters of it: "
            "'blocks instances' shows those that are there"
        )
    found = matching(text, ids)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigurationError(f"no instance is called {text!r}; 'blocks instances' shows those that are there")
    some = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    raise ConfigurationError(f"{len(found)} instances are called {text!r}: {some}; write more of the id")
