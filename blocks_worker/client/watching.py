"""Watch one task by callbacks alone: with a task client, or with a client of the PubNub SDK that may read it."""

from __future__ import annotations

from typing import Any

from blocks_worker.client.bare_watching import BareWatch
from blocks_worker.client.client import TaskClient
from blocks_worker.client.subscribed import TaskEventCallbacks, TaskSubscription


def subscribe_to_task(
    client: Any, task_id: str, owner_id: str | None, callbacks: TaskEventCallbacks
) -> TaskSubscription:
    """Call back with the events of a task.

    Args:
        client: a `TaskClient`, with which every event is told, from the first one on; or a client of the PubNub SDK
            that holds the task's read grant: then only what is said from now on, and what the network loses is lost.
        task_id: whose events.
        owner_id: who sent the task, as ``session.owner_id`` tells.
        callbacks: what is called, on threads of ours, one after another.

    Raises:
        TypeError: the client or the callbacks are something else.
        ValueError: the task is not this owner's, or a name does not fit.
        RpcError: there is no such task for this client.
    """
    if isinstance(client, TaskClient):
        return client.subscribe_to_task(task_id, owner_id, callbacks)
    if not isinstance(callbacks, TaskEventCallbacks):
        raise TypeError(f"callbacks are TaskEventCallbacks, not {type(callbacks).__name__}")
    watch = BareWatch(client, task_id, owner_id or "", callbacks)
    watch.start()
    return TaskSubscription(task_id, watch.stop)
