"""Submits that share requests and survive lost answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.concurrency import BATCH_BYTES, Backoff, Batcher, Deadline
from blocks_worker.controlplane.api import refusal
from blocks_worker.errors import HubUnavailableError, RpcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.api import HubApi, ItemResult
    from blocks_worker.protocol.tasks import SubmitAnswer, SubmitTask

#: The hub cannot say whether the task was stored: the same submit is sent again.
_UNKNOWN = 503
#: Least time in seconds that one request is given.
_LEAST = 0.1
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
        backoff = Backoff(self._entropy, first=0.1, cap=5.0)
        while True:
            try:
                result = self._batcher.call(item)
                if result.status != _UNKNOWN:
                    return result.value()
                error: Exception = refusal(result.status, result.problem)
            except RpcError as refused:
                if refused.status != _UNKNOWN:
                    raise
                error = refused
            except (HubUnavailableError, InterruptedError) as lost:
                error = lost
            self._pause(item.deadline, backoff, error)

    def _pause(self, deadline: Deadline, backoff: Backoff, error: Exception) -> None:
        pause = backoff.next()
        left = deadline.remaining()
        if left is not None and left <= pause:
            raise error
        self._clock.pause(pause)

    def _flush(self, items: Sequence[_Submit]) -> list[ItemResult[SubmitAnswer]]:
        left = [item.deadline.remaining() or 0.0 for item in items]
        return self._api.submit([item.task for item in items], timeout=max(_LEAST, min(left)))
