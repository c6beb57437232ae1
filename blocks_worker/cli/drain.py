"""`blocks drain`: ask an instance to finish what it has and end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import open_hub
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.fleet import all_instances, found_instance
from blocks_worker.cli.output import counted, end_with
from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import HubUnavailableError
from blocks_worker.processes import is_alive
from blocks_worker.protocol.registry import DrainInstance
from blocks_worker.protocol.tasks import MAX_REASON

if TYPE_CHECKING:
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.leases import Process
    from blocks_worker.protocol.registry import InstanceList, InstanceRow

#: Seconds between two looks whether it has ended.
_LOOK = 0.5
#: Seconds in which a process ends whose hub answers no more: it closes what is left.
_LAST_STEPS = 20.0


@click.command()
@click.argument("instance")
@click.option("--reason", help=f"Why, in at most {MAX_REASON} characters.")
@click.option("--wait", is_flag=True, help="Return when it has ended.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait for that at most; then exit code 3.")
@click.option("--json", "as_json", is_flag=True, help="Print the instances as a JSON list, as they stood.")
def drain(*, instance: str, reason: str | None, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Ask INSTANCE to take nothing new, to finish its tasks within its drain timeout, and to end with exit code 0.

    INSTANCE is an id, or its beginning or end as far as no other instance has the same. A service manager may start it
    again: there, stop the service instead.
    """
    with open_hub() as hub:
        instance_id = found_instance(hub, instance)
        asked = hub.drain_instance(instance_id, DrainInstance(reason=reason))
        _tell(instance_id, asked.instances, as_json=as_json)
        deadline = Deadline(timeout)
        clock = Clock()
        while wait and not _has_ended(hub, instance_id, asked, deadline.within(_LAST_STEPS)):
            if deadline.expired():
                end_with(Exit.TIMEOUT, f"{instance_id} has not ended in time; it goes on draining")
            clock.pause(deadline.within(_LOOK))


def _tell(instance_id: str, asked: list[InstanceRow], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(asked), indent=2))
        return
    left = sum(one.active_tasks for one in asked)
    click.echo(f"{instance_id} was asked to drain, {counted(left, 'task')} left")


def _has_ended(hub: HubApi, instance_id: str, asked: InstanceList, patience: float) -> bool:
    """Tell whether all that were asked have ended.

    Raises:
        HubUnavailableError: the hub went, and did not go with them.
    """
    agents = {one.agent_name: one.started_at for one in asked.instances}
    try:
        return not any(_is_there(row, agents, instance_id) for name in agents for row in all_instances(hub, name))
    except HubUnavailableError:
        # The hub may live in the process that drained: it goes a little before that.
        if asked.processes and all(_is_gone(process, Deadline(patience)) for process in asked.processes):
            return True
        raise


def _is_gone(process: Process, deadline: Deadline) -> bool:
    """Wait for the end of a process of this machine; of one elsewhere nothing is known."""
    clock = Clock()
    while is_alive(process) and not deadline.expired():
        clock.pause(deadline.within(_LOOK))
    return is_alive(process) is False


def _is_there(row: InstanceRow, agents: dict[str, int], instance_id: str) -> bool:
    """Tell whether this is the process life that was asked: one that began later has the name only."""
    return row.instance_id == instance_id and row.started_at <= agents[row.agent_name]
