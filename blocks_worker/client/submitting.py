"""Submits that share requests and survive lost answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.batching import BATCH_BYTES, Batcher
from blocks_worker.client.repeating import is_worth_another, one_try, repeated
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.api import HubApi, ItemResult
    from blocks_worker.protocol.tasks import SubmitAnswer, SubmitTask

#: Room for the brackets and commas of a batch, in bytes.
_ENVELOPE = 1024


@dataclass(frozen=True)
class _Submit:
    task: SubmitTask
    size: int
    deadline: Deadline


class Submitter:
    """Send submits in natural batches.

    Whose answer was lost, was "unknown" or "later", is sent again under the same task id and key until its time is
    over, so that the task exists at most once.
    """

    def __init__(self, api: HubApi, *, clock: Clock, entropy: Entropy) -> None:
        self._api = api
        self._clock = clock
        self._entropy = entropy
        self._batcher = Batcher(self._flush, size_of=lambda item: item.size + 1, max_bytes=BATCH_BYTES - _ENVELOPE)

    def submit(self, task: SubmitTask, size: int, timeout: float) -> SubmitAnswer:
        """Return the hub's answer to one submit.

        Raises:
            RpcError: the hub refused, or could not store it in time.
            HubUnavailableError: no answer came in time.
        """
        item = _Submit(task, size, Deadline(timeout, self._clock))
        return repeated(
            lambda: self._batcher.call(item).value(), item.deadline, clock=self._clock, entropy=self._entropy
        )

    def submit_many(self, tasks: Sequence[tuple[SubmitTask, int]], timeout: float) -> list[SubmitAnswer | RpcError]:
        """Return what each of many submits got, in order: the hub's answer, or its refusal.

        Raises:
            RpcError: the hub could not store one of them in time.
            HubUnavailableError: no answer came in time.
        """
        deadline = Deadline(timeout, self._clock)
        items = [_Submit(task, size, deadline) for task, size in tasks]

        def act() -> list[SubmitAnswer | RpcError]:
            results = [_answer_or_refusal(result) for result in self._batcher.call_many(items)]
            for result in results:
                if isinstance(result, RpcError) and is_worth_another(result):
                    # All again, under the same ids: those that were taken in get the same answer once more.
                    raise result
            return results

        return repeated(act, deadline, clock=self._clock, entropy=self._entropy)

    def _flush(self, items: Sequence[_Submit]) -> list[ItemResult[SubmitAnswer]]:
        timeout = min(map(one_try, {item.deadline for item in items}))
        return self._api.submit([item.task for item in items], timeout=timeout)


def _answer_or_refusal(result: ItemResult[SubmitAnswer]) -> SubmitAnswer | RpcError:
    try:
        return result.value()
    except RpcError as refused:
        return refused
