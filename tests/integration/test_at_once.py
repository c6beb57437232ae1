"""A link whose thread gives messages to their taker itself, while the owner has all else by `receive`."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from support import LoopThread, wait_until
from support_link import LinkNet, link_net

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import TransportClosedError
from blocks_worker.protocol.link import AHEAD_MESSAGES
from blocks_worker.transports.base import Link, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from blocks_worker.transports.base import Message, Received, Subscription


class Taker:
    """Take what comes, and remember it and on which threads that was."""

    def __init__(self, *, wakes: bool = False) -> None:
        self.numbers: list[int] = []
        self.threads: set[str] = set()
        self._wakes = wakes

    def __call__(self, messages: Sequence[Message]) -> bool:
        """Take messages."""
        self.numbers += [message.body["i"] for message in messages]
        self.threads.add(threading.current_thread().name)
        return self._wakes


@pytest.fixture
def net(tmp_path: Path) -> Iterator[LinkNet]:
    """Give a network of links."""
    with LoopThread("links") as loop, link_net(loop, tmp_path) as made:
        yield made


def received(subscription: Subscription) -> list[Received]:
    """Return what an owner gets who waits for ever each time, until it is closed."""
    found: list[Received] = []
    with contextlib.suppress(TransportClosedError):
        while True:
            found += subscription.receive(None)
    return found


def test_messages_come_at_once_and_all_else_to_the_owner(net: LinkNet) -> None:
    """More than may be sent ahead comes in order, once, on the link's thread; the owner says that it was taken."""
    taker, count = Taker(), AHEAD_MESSAGES + AHEAD_MESSAGES // 2
    reader, sender = net.transport("reader", at_once=taker), net.transport("sender")
    subscription = reader.subscribe(["a"])
    found: list[Received] = []
    owner = threading.Thread(target=lambda: found.extend(received(subscription)))
    owner.start()
    for number in range(count):
        sender.publish("a", [{"i": number}], Deadline(20))
    wait_until(lambda: len(taker.numbers) >= count, 20, "all came")
    reader.close(Deadline(5))
    owner.join(10)

    assert taker.numbers == list(range(count))
    assert taker.threads == {"hub-link"}
    assert found == [Status(Link.CONNECTED)]


def test_the_taker_has_the_owner_look(net: LinkNet) -> None:
    """One that says so ends the owner's wait, however long that was to be."""
    taker = Taker(wakes=True)
    subscription = net.transport("reader", at_once=taker).subscribe(["a"])
    assert subscription.receive(10) == (Status(Link.CONNECTED),)
    net.transport("sender").publish("a", [{"i": 1}], Deadline(20))

    assert subscription.receive(None) == ()
    assert taker.numbers == [1]


def test_a_link_that_comes_again_is_told_to_the_owner(net: LinkNet) -> None:
    """Over a restart of the hub the owner hears of the break, and the taker of what is said after it."""
    taker = Taker()
    reader = net.transport("reader", at_once=taker)
    subscription = reader.subscribe(["a"])
    net.stop()
    net.start()
    found: list[Received] = []
    while not any(isinstance(item, Status) and item.link is Link.RECOVERED for item in found):
        found += subscription.receive(20)
    net.transport("sender").publish("a", [{"i": 7}], Deadline(20))
    wait_until(lambda: taker.numbers == [7], what="the message came")

    assert [item.link for item in found if isinstance(item, Status)] == [Link.CONNECTED, Link.RETRYING, Link.RECOVERED]
