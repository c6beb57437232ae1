"""The outboxes of all runs that have something to say: what is sent together, and what of it is on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.batching import BATCH_ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocks_worker.protocol.leases import Report
    from blocks_worker.worker.outbox import Outbox
    from blocks_worker.worker.run import RunKey

    Batch = list[tuple[Outbox, Report]]

#: Bytes of one request, unless a single report is more; the hub takes 1 MiB.
REQUEST_BYTES = 640 * 1024
#: A second request leaves beside one that is under way once so many runs have ended, or a quarter of those that the
#: first one reports: what is few costs less together.
MANY = 8


class Outboxes:
    """Gather reports for up to two requests at a time; pure, its lock is the owner's.

    Of one run one report at most is on its way: so its words stay in order.
    """

    def __init__(self) -> None:
        self._speaking: dict[RunKey, Outbox] = {}
        #: Runs whose report is on its way, and those that have ended and whose end is not.
        self._sending: set[RunKey] = set()
        self._ended: set[RunKey] = set()

    @property
    def is_sending(self) -> bool:
        """Tell whether a request is under way."""
        return bool(self._sending)

    @property
    def are_many(self) -> bool:
        """Tell whether what has ended is worth a second request, beside one that is under way."""
        return len(self._ended) >= max(MANY, len(self._sending) // 4)

    def speaks(self, outbox: Outbox) -> None:
        """Note that this one has something to say."""
        self._speaking[outbox.key] = outbox
        if outbox.has_ended:
            self._ended.add(outbox.key)

    def over(self, outbox: Outbox) -> None:
        """Forget one whose words count no more, or were all heard."""
        self._speaking.pop(outbox.key, None)
        self._ended.discard(outbox.key)

    def of(self, keys: Iterable[RunKey]) -> list[Outbox]:
        """Return those of these runs that have something to say."""
        return [self._speaking[key] for key in keys if key in self._speaking]

    def all(self) -> list[Outbox]:
        """Return all that have something to say, on its way or not."""
        return list(self._speaking.values())

    def gather(self, now: float) -> Batch:
        """Return what is due, for one request; it is on its way from now on."""
        batch: Batch = []
        if self._sending and not self.are_many:
            return batch
        room, most = REQUEST_BYTES, BATCH_ITEMS
        if not self._sending and len(self._ended) >= 2 * MANY:
            # The other half is the second request: the hub writes one down while the worker runs what the other brings.
            most = min(most, (len(self._ended) + 1) // 2)
        for key, outbox in list(self._speaking.items()):
            if key in self._sending:
                continue
            taken = outbox.take(now, room)
            if taken is None:
                if outbox.due_at() is None:
                    del self._speaking[key]
                continue
            if batch and taken[1] > room:
                break
            batch.append((outbox, taken[0]))
            self._sending.add(key)
            self._ended.discard(key)
            room -= taken[1]
            if len(batch) == most or room <= 0:
                break
        return batch

    def sent(self, batch: Batch) -> None:
        """Let these be gathered again: nothing of them is on its way any more."""
        for outbox, _ in batch:
            self._sending.discard(outbox.key)
            if outbox.key in self._speaking and outbox.has_ended:
                self._ended.add(outbox.key)

    def dues(self) -> list[float]:
        """Return when there is something to send of each that has something, and of which nothing is on its way."""
        boxes = [box for key, box in self._speaking.items() if key not in self._sending]
        return [due for box in boxes if (due := box.due_at()) is not None]
