"""The durable steps of a run: done once, stored at the hub before the handler goes on."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.concurrency import Backoff
from blocks_worker.context.steps import check_count, check_name, stored_form, value_of
from blocks_worker.errors import HubUnavailableError, RpcError, TaskCancelledError, TaskFinishedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.steps import StepsAnswer
    from blocks_worker.worker.publisher import Publisher
    from blocks_worker.worker.run import Run

#: Seconds until a request for stored steps without an answer is repeated.
FETCH_TIMEOUT = 5.0
#: The task is not this run's any more.
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})


class RunSteps:
    """Do each named step of a task once; made for one run, called from any of its threads."""

    def __init__(
        self,
        run: Run,
        *,
        publisher: Publisher,
        fetch: Callable[[str, str], StepsAnswer],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._run = run
        self._steps = run.outbox.steps
        self._publisher = publisher
        self._fetch = fetch
        self._clock = clock
        self._backoff = Backoff(entropy, cap=5.0)
        stored = run.answer.steps if run.answer is not None else msgspec.UNSET
        #: What runs before stored is known: it came with the lease, or was fetched.
        self._is_known = stored is not None
        if stored:
            self._steps.know(stored)

    def __call__(self, name: str, fn: Callable[[], object]) -> Any:
        """Return what is stored under the name; where that is nothing, do it and return once it is stored.

        Raises:
            StepError: the name is none, or what `fn` returned cannot be stored.
            TaskCancelledError: the task is to stop.
            TaskFinishedError: it is over for this run.
        """
        check_name(name)
        self._know()
        known = self._steps.stored(name)
        if known is None:
            check_count(name, self._steps.count)
            if self._run.cancel_event.is_set():
                raise TaskCancelledError(self._run.task_id)
            self._publisher.add_step(self._run, name, stored_form(name, fn()))
            known = self._steps.wait(self._run, name)
        return value_of(known)

    def _know(self) -> None:
        """Fetch what was too much for the answer to the claim; who comes at the same moment fetches it too."""
        after = ""
        while not self._is_known:
            page = self._page(after)
            self._steps.know(page.steps)
            after = page.steps[-1].name if page.steps else after
            self._is_known = not page.more

    def _page(self, after: str) -> StepsAnswer:
        run = self._run
        while True:
            if run.cancel_event.is_set():
                raise TaskCancelledError(run.task_id)
            try:
                return self._fetch(run.task_id, after)
            except RpcError as error:
                if error.status in _GONE:
                    # Whoever fences it says so soon, by heartbeat or report.
                    raise TaskFinishedError(run.task_id) from error
                pause = self._backoff.after(error)
            except HubUnavailableError as error:
                pause = self._backoff.after(error)
            self._clock.wait(run.cancel_event, pause)
