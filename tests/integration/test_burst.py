"""No message is lost in a burst far beyond what the network keeps for pollers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from localnet import networks
from pubnub_pair import Inbox, transports

from blocks_worker.concurrency import Deadline

if TYPE_CHECKING:
    from blocks_worker.transports.pubnub.transport import PubNubTransport


def burst(sender: PubNubTransport, channel: str, count: int) -> threading.Thread:
    """Publish one message after the other from a thread."""

    def publish() -> None:
        for number in range(count):
            sender.publish(channel, [{"i": number, "c": channel}], Deadline(60))

    thread = threading.Thread(target=publish)
    thread.start()
    return thread


def run(channels: list[str], count: int, timeout: float, *, asleep: bool = False) -> tuple[Inbox, dict[str, Any]]:
    """Send so many messages to each channel at once; return what came, and what the reader counted.

    An owner that is asleep takes nothing before all was sent.
    """
    with networks() as network, transports() as make:
        port = network(retention_limit=20).port
        reader = make(port, "reader", retention_limit=20)
        inbox = Inbox(reader.subscribe(channels))
        senders = [burst(make(port, f"sender-{name}"), name, count) for name in channels]
        try:
            if asleep:
                for sender in senders:
                    sender.join()
            inbox.until(count * len(channels), timeout)
        finally:
            for sender in senders:
                sender.join()
        return inbox, reader.counters


def test_a_burst_from_two_senders_is_all_delivered_in_order() -> None:
    """What overflows the network's memory while the owner sleeps is found again: every message, once, in order."""
    inbox, counters = run(["one", "two"], 750, 60, asleep=True)

    for channel in ("one", "two"):
        assert [m.body["i"] for m in inbox.messages if m.channel == channel] == list(range(750))
    assert counters.get("overflows", 0) > 0
    assert counters.get("fill_rows", 0) > 0
    assert all(gap.filled for gap in inbox.gaps)


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("round_number", range(20))
def test_eight_thousand_back_to_back(round_number: int) -> None:
    """Of 8,000 back-to-back publishes none is lost, doubled or out of order [N=20]."""
    inbox, _ = run(["one"], 8000, 150)

    assert inbox.said() == list(range(8000)), round_number
