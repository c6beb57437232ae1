"""From commits to the bus: what the ledger committed is packed in envelopes and published, on the hub's loop."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from blocks_worker.observability.spread import Spread
from blocks_worker.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blocks_worker.concurrency import Entropy
    from blocks_worker.hub.rounds import Rounds
    from blocks_worker.hub.store.transaction import Publication

#: Messages of one envelope, and bytes of all of them: 24 KiB less what stands around them.
ENVELOPE_MESSAGES = 100
ENVELOPE_BYTES = 24 * 1024 - 128
#: How lags are told apart, in seconds.
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: Channels whose numbering is remembered.
CHANNELS = 20_000


class Publisher:
    """Publish what was committed; it numbers the messages of each channel and counts what it did.

    `committed` is called by the store's writer thread, everything else by the loop's. A message that
    no envelope can carry is left out: readers see the hole in the numbers of its task and ask the hub.
    """

    def __init__(
        self, *, publish: Callable[[str, str, bytes], object], keys: Mapping[str, str], entropy: Entropy
    ) -> None:
        self._publish = publish
        self._keys = keys
        self._numbers = _Numbers(entropy.name(8))
        self._rounds: Rounds | None = None
        self._now: Callable[[], float] = float
        self.counters: Counter[str] = Counter()
        #: Seconds from a commit until it was published.
        self.lag = Spread(LAGS)
        #: Place in the ledger of the newest event that was published.
        self.published_seq = 0

    def start(self, rounds: Rounds, now: Callable[[], float]) -> None:
        """Publish what is committed from now on in these rounds; `now` tells seconds that never go back."""
        self._rounds, self._now = rounds, now

    def committed(self, publications: list[Publication]) -> None:
        """Hand one commit's publications to the loop."""
        if self._rounds is not None and publications:
            self._rounds.hand(self._publish_committed, publications, self._now())

    def _publish_committed(self, publications: list[Publication], since: float) -> None:
        self.publish(publications)
        self.lag.note(self._now() - since)

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish in order of channels and of messages within them."""
        newest = self.published_seq
        groups: dict[tuple[str, str], list[Publication]] = {}
        for item in publications:
            groups.setdefault((item.billing_mode, item.channel), []).append(item)
            if item.seq is not None and item.seq > newest:
                newest = item.seq
        for (mode, channel), group in groups.items():
            self._publish_channel(mode, channel, group)
        self.published_seq = newest

    def _publish_channel(self, mode: str, channel: str, group: list[Publication]) -> None:
        batch: list[bytes] = []
        size = 0
        for item in group:
            length = len(item.message)
            if length > ENVELOPE_BYTES:
                self.counters["too_large"] += 1
                continue
            if batch and (len(batch) == ENVELOPE_MESSAGES or size + length > ENVELOPE_BYTES):
                self._publish_batch(mode, channel, batch)
                batch, size = [], 0
            batch.append(item.message)
            size += length + 1
        if batch:
            self._publish_batch(mode, channel, batch)
        # What is said last of a channel stands last.
        if group[-1].ends_channel:
            self._numbers.forget(mode, channel)

    def _publish_batch(self, mode: str, channel: str, batch: list[bytes]) -> None:
        head, first = self._numbers.take((mode, channel), len(batch))
        self._publish(self._keys[mode], channel, b'%b%d,"b":[%b]}' % (head, first, b",".join(batch)))
        self.counters["envelopes"] += 1
        self.counters["messages"] += len(batch)


class _Numbers:
    """Number the messages of each channel; whoever is numbered anew gets a new producer's name."""

    def __init__(self, hub: str) -> None:
        self._hub = hub
        self._made = 0
        self._channels: OrderedDict[tuple[str, str], tuple[bytes, int]] = OrderedDict()

    def take(self, key: tuple[str, str], count: int) -> tuple[bytes, int]:
        """Return what stands before the number in an envelope of this channel, and the first of `count` numbers."""
        head, first = self._channels.get(key) or (self._new(), 1)
        self._channels[key] = (head, first + count)
        self._channels.move_to_end(key)
        if len(self._channels) > CHANNELS:
            self._channels.popitem(last=False)
        return head, first

    def forget(self, mode: str, channel: str) -> None:
        """Drop a channel on which nothing more is said."""
        self._channels.pop((mode, channel), None)

    def _new(self) -> bytes:
        self._made += 1
        return b'{"v":1,"from":%b,"n":' % encode(f"{self._hub}.{self._made}")
