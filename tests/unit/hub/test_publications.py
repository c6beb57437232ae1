"""From commits to envelopes: order, numbers, sizes, and what is left out."""

from __future__ import annotations

import itertools
import json
from typing import Any

from blocks_worker.concurrency import Entropy
from blocks_worker.hub import publications
from blocks_worker.hub.publications import ENVELOPE_BYTES, Publisher
from blocks_worker.hub.store.transaction import Publication
from blocks_worker.transports.envelope import open_envelope


class _Bus:
    """Keep what was published."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, dict[str, Any]]] = []
        keys = {"free": "sub-free", "paid": "sub-paid"}
        self.publisher = Publisher(publish=self._take, keys=keys, entropy=Entropy())

    def _take(self, key: str, channel: str, payload: bytes) -> None:
        self.said.append((key, channel, json.loads(payload)))

    def bodies(self) -> list[Any]:
        """Return all messages in the order in which they were said."""
        return [body for _, _, envelope in self.said for body in envelope["b"]]


def _publication(
    number: int, channel: str = "c", *, size: int = 0, mode: str = "free", seq: int | None = None, ends: bool = False
) -> Publication:
    message = json.dumps({"i": number, "pad": "x" * size}, separators=(",", ":")).encode()
    return Publication(channel, message, mode, seq, ends)


def test_a_commit_is_one_envelope_a_channel_and_mode() -> None:
    """Messages of one channel travel together, each mode on its own keys."""
    bus = _Bus()

    bus.publisher.publish(
        [_publication(1, "a"), _publication(2, "b"), _publication(3, "a"), _publication(4, "a", mode="paid")]
    )

    assert [(key, channel, [body["i"] for body in said["b"]]) for key, channel, said in bus.said] == [
        ("sub-free", "a", [1, 3]),
        ("sub-free", "b", [2]),
        ("sub-paid", "a", [4]),
    ]


def test_numbers_go_on_from_commit_to_commit() -> None:
    """A reader that follows one producer sees 1, 2, 3 … and what it opens is a sound envelope."""
    bus = _Bus()

    for start in (1, 3, 6):
        bus.publisher.publish([_publication(start), _publication(start + 1)])
    opened = [open_envelope(said) for _, _, said in bus.said]

    assert [(item.first, len(item.bodies)) for item in opened] == [(1, 2), (3, 2), (5, 2)]
    assert len({item.producer for item in opened}) == 1


def test_envelopes_are_cut_by_count_and_by_bytes() -> None:
    """At most 100 messages and 24 KiB travel together, in order and with contiguous numbers."""
    bus = _Bus()

    bus.publisher.publish([_publication(i) for i in range(250)] + [_publication(i, size=9000) for i in range(250, 256)])

    assert [body["i"] for body in bus.bodies()] == list(range(256))
    assert max(len(said["b"]) for _, _, said in bus.said) == 100
    assert max(len(json.dumps(said, separators=(",", ":"))) for _, _, said in bus.said) <= 24 * 1024
    firsts = [(said["n"], len(said["b"])) for _, _, said in bus.said]
    assert all(first + count == following for (first, count), (following, _) in itertools.pairwise(firsts))


def test_a_message_that_fits_no_envelope_is_left_out_and_counted() -> None:
    """The others are said with no hole in their numbers."""
    bus = _Bus()

    bus.publisher.publish([_publication(1), _publication(2, size=ENVELOPE_BYTES), _publication(3)])

    assert [(said["n"], [body["i"] for body in said["b"]]) for _, _, said in bus.said] == [(1, [1, 3])]
    assert bus.publisher.counters == {"envelopes": 1, "messages": 2, "too_large": 1}


def test_a_channel_that_ended_and_one_long_forgotten_begin_as_another_producer() -> None:
    """Nobody meets old numbers again: they are named by a new producer."""
    bus = _Bus()

    bus.publisher.publish([_publication(1, ends=True)])
    bus.publisher.publish([_publication(2)])
    bus.publisher.publish([_publication(3, f"other-{i}") for i in range(publications.CHANNELS)])
    bus.publisher.publish([_publication(4)])

    said = [envelope for _, channel, envelope in bus.said if channel == "c"]
    assert [envelope["n"] for envelope in said] == [1, 1, 1]
    assert len({envelope["from"] for envelope in said}) == 3


def test_the_newest_place_in_the_ledger_is_remembered() -> None:
    """[R5] The hub saves it; messages without a place do not move it."""
    bus = _Bus()

    bus.publisher.publish([_publication(1, seq=7), _publication(2, seq=9), _publication(3)])
    bus.publisher.publish([_publication(4)])

    assert bus.publisher.published_seq == 9
