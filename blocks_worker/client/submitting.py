"""Submits that share requests and survive lost answers."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from blocks_worker.batching import BATCH_BYTES, Batcher
from blocks_worker.client.repeating import is_worth_another, one_try, repeated
from blocks_worker.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import HubApi, ItemResult
    from blocks_worker.protocol.tasks import SubmitAnswer, SubmitTask

#: Room for the brackets and commas of a batch, in bytes.
_ENVELOPE = 1024


class Wanted(NamedTuple):
    """One task that was checked, its files stored, and that nobody asked for yet; `size`: bytes of its body."""

    task_id: str
    params: SendMessageParams
    body: SubmitTask
    size: int


class Submit(NamedTuple):
    """One task that is asked for now, and when there has to be an answer."""

    wanted: Wanted
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
        self._batcher = Batcher(self._flush, size_of=attrgetter("wanted.size"), max_bytes=BATCH_BYTES - _ENVELOPE)

    def submit(self, one: Submit) -> SubmitAnswer:
        """Return the hub's answer to one submit.

        Raises:
            RpcError: the hub refused, or could not store it in time.
            HubUnavailableError: no answer came in time.
        """
        return repeated(lambda: self._batcher.call(one).value(), one.deadline, clock=self._clock, entropy=self._entropy)

    def in_batches(self, many: Iterable[Submit]) -> Iterator[list[Submit]]:
        """Yield submits as they fit into requests."""
        return self._batcher.in_batches(many)

    def submit_batch(self, batch: Sequence[Submit]) -> list[SubmitAnswer | RpcError]:
        """Return what each submit of a batch got, in order: the hub's answer, or its refusal.

        Raises:
            RpcError: the hub could not store one of them in time.
            HubUnavailableError: no answer came in time.
        """

        def act() -> list[SubmitAnswer | RpcError]:
            results = [_answer_or_refusal(result) for result in self._batcher.call_many(batch)]
            for result in results:
                if isinstance(result, RpcError) and is_worth_another(result):
                    # All again, under the same ids: those that were taken in get the same answer once more.
                    raise result
            return results

        return repeated(act, batch[0].deadline, clock=self._clock, entropy=self._entropy)

    def _flush(self, items: Sequence[Submit]) -> list[ItemResult[SubmitAnswer]]:
        timeout = min(map(one_try, {item.deadline for item in items}))
        return self._api.submit([item.wanted.body for item in items], timeout=timeout)


def _answer_or_refusal(result: ItemResult[SubmitAnswer]) -> SubmitAnswer | RpcError:
    try:
        return result.value()
    except RpcError as refused:
        return refused
