"""How a handler asks another agent and waits for the answer, without a slot meanwhile."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from blocks_worker.client.client import TaskClient
from blocks_worker.client.sub_tasks import SubTaskClient
from blocks_worker.errors import BlocksError, TaskCancelledError, TaskFinishedError
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from blocks_worker.client.params import RunOptions
    from blocks_worker.client.results import TaskResult
    from blocks_worker.client.session import TaskSession
    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.pausing import Pauses
    from blocks_worker.worker.run import Run

_logger = logging.getLogger(__name__)

#: Why a sub-task is cancelled that nobody waits for any more.
NOT_AWAITED = "nobody waits for the answer any more"


class Calls:
    """Make the sub-tasks of runs."""

    def __init__(self, make_client: Callable[[], object] | None, *, pauses: Pauses, clock: Clock) -> None:
        self._make_client = make_client
        self._pauses = pauses
        self._clock = clock

    def client(self, run: Run) -> Any:
        """Return a client with this instance's identity, whose tasks are sub-tasks of the run's.

        Raises:
            RuntimeError: the worker has no client.
            TaskFinishedError: the run is over.
        """
        if self._make_client is None:
            raise RuntimeError("this worker was given no client for calls to other agents")
        if not run.outbox.is_open:
            raise TaskFinishedError(run.task_id)
        client = self._make_client()
        if not isinstance(client, TaskClient):
            return client
        return SubTaskClient(client, parent=run.task_id, deadline=lambda: self._deadline(run))

    def call(
        self,
        run: Run,
        agent: str,
        parts: object = None,
        timeout: float | None = 60.0,
        **options: Unpack[RunOptions],
    ) -> TaskResult:
        """Ask an agent and return its result; the options are those of `TaskClient.run`.

        Raises:
            TypeError: there is no such option.
            TaskFailedError: the sub-task failed or was canceled.
            TimeoutError: it is not over in time; it is cancelled.
            TaskCancelledError: this task is to stop; the sub-task is cancelled.
            TaskFinishedError: this task is over.
            RpcError: the hub refused it; `call_depth_exceeded`: too many calls within calls.
        """
        client = self.client(run)
        if run.cancel_event.is_set():
            raise TaskCancelledError(run.task_id)
        session: TaskSession = client.send_message(agent, parts, **options)
        with session:
            run.on_cancel(session.close)
            try:
                with self._pauses.without_slot(run):
                    return session.result(timeout)
            except BaseException:
                if session.state not in SHOWN_TERMINAL:
                    self._give_up(session)
                if run.cancel_event.is_set():
                    raise TaskCancelledError(run.task_id) from None
                raise

    def _deadline(self, run: Run) -> int | None:
        """Return when the run ends at the latest, in unix milliseconds."""
        if run.deadline is None:
            return None
        left = max(0.0, run.deadline - self._clock.monotonic())
        return self._clock.wall_ms() + int(left * 1000)

    @staticmethod
    def _give_up(session: TaskSession) -> None:
        """Cancel a sub-task; should that fail, the hub cancels it when its parent ends."""
        try:
            with contextlib.suppress(RuntimeError):
                session.cancel(NOT_AWAITED)
        except BlocksError as error:
            _logger.debug("sub_task_not_cancelled", extra={"task": session.task_id, "error": str(error)})
