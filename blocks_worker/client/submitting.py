"""Submits that share requests and survive lost answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.client.repeating import one_try, repeated
from blocks_worker.concurrency import BATCH_BYTES, Batcher, Deadline

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

    Whose answer was lost, or was "unknown", is sent again under the same task id and key until its time is
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

    def _flush(self, items: Sequence[_Submit]) -> list[ItemResult[SubmitAnswer]]:
        timeout = min(one_try(item.deadline) for item in items)
        return self._api.submit([item.task for item in items], timeout=timeout)
