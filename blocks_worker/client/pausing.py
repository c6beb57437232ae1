"""Turn the pause flag of a task from what it is now, once, however often the question has to be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from blocks_worker.client.repeating import one_try
from blocks_worker.errors import RpcError
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Deadline
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.tasks import TaskRow

T = TypeVar("T")

#: The flag was turned meanwhile, by this repeated question or by somebody else.
_OUTDATED = "PauseOutdated"


class Patience(Protocol):
    """Do what may be done twice until it was answered."""

    def __call__(self, act: Callable[[], T], deadline: Deadline) -> T:
        """Return the answer."""


def paused(api: HubApi, task_id: str, *, on: bool, deadline: Deadline, patiently: Patience) -> TaskRow:
    """Ask that a task wait, or go on; return its row as it is then.

    A repeat whose first try was taken in changes nothing, even when somebody else has turned the flag back meanwhile.
    """
    row = patiently(lambda: api.get_task(task_id), deadline)
    if row.pause is on or row.state in SHOWN_TERMINAL:
        return row
    try:
        return patiently(lambda: api.pause_task(task_id, row.pause_seq, on=on, timeout=one_try(deadline)), deadline)
    except RpcError as refused:
        if refused.code != _OUTDATED:
            raise
    return patiently(lambda: api.get_task(task_id), deadline)
