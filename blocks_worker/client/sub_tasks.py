"""A client whose tasks are sub-tasks of the one that is at work: they know it, and end with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blocks_worker.client.client import TaskClient
from blocks_worker.client.params import params_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.session import TaskSession


class SubTaskClient(TaskClient):
    """Send for one task; everything else is as the client does it that it stands on, which others use too."""

    def __init__(self, client: TaskClient, *, parent: str, deadline: Callable[[], int | None]) -> None:
        super().__init__(client._core)  # noqa: SLF001 - a second face of the same client
        self._parent = parent
        self._deadline = deadline

    def send_message(self, *args: object, **keywords: Any) -> TaskSession:
        """Ask for a task as a sub-task, which ends no later than the one that asks; see `TaskClient.send_message`."""
        return self._core.send(self._for_parent(params_of(args, keywords)))

    def send_many(self, many: Iterable[SendMessageParams | Mapping[str, Any]]) -> list[TaskSession]:
        """Ask for many tasks as sub-tasks; see `TaskClient.send_many`."""
        return self._core.send_many([self._for_parent(params_of((params,), {})) for params in many])

    def destroy(self) -> None:
        """Leave the client open: it is the instance's."""

    def _for_parent(self, params: SendMessageParams) -> SendMessageParams:
        ends = [each for each in (params.deadline, self._deadline()) if each is not None]
        return replace(params, parent_task_id=params.parent_task_id or self._parent, deadline=min(ends, default=None))
