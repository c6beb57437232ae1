"""What every transport promises, on each of them; the words stand in ``transports/base.py``."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from localnet import networks
from pubnub_pair import Inbox, Tokens, transports
from support import LoopThread, wait_until
from support_faults import KINDS, FaultyBus, heal, play_on
from support_link import LINK_FAULTS, LinkNet, link_net

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.whereabouts import Whereabouts
from blocks_worker.errors import (
    InvalidMessageError,
    MessageTooLargeError,
    PublishRefusedError,
    PublishTimeoutError,
    TransportClosedError,
)
from blocks_worker.hub.network.access import mint
from blocks_worker.transports.memory import MemoryTransport
from blocks_worker.transports.moving import MovingTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.transports.base import Grants, Transport

SECRET = b"secret-of-the-network"


@dataclass(frozen=True)
class Settled:
    """A place that stays."""

    hub_url: str = "http://127.0.0.1:1"
    origin: str = "http://127.0.0.1:2"


SETTLED = Settled()


class Network(Protocol):
    """One network that can be cut, and the transports on it."""

    def transport(self, name: str, grants: Grants | None = None) -> Transport:
        """Open a transport."""

    def grant(self, name: str, *channels: str) -> str:
        """Return a token for these channels."""

    def play(self, fault: str, count: int = 1) -> None:
        """Have this go wrong so often."""

    def struck(self) -> bool:
        """Tell whether all of it went wrong."""

    def heal(self) -> None:
        """Let everything go well again."""

    def cut(self) -> None:
        """Take the network away; what it kept is lost."""

    def restore(self) -> None:
        """Put it back at the same place."""


class PubNubNetwork:
    """Be the PubNub transport on the local network."""

    def __init__(self, net: Any, make: Any, *, closed: bool = False) -> None:
        self._net = net
        self._make = make
        self._closed = closed

    def transport(self, name: str, grants: Grants | None = None) -> Transport:
        """Open a transport."""
        transport: Transport = self._make(self._net.port, name, grants=grants)
        return transport

    def grant(self, name: str, *channels: str) -> str:
        """Return a token for these channels and the wake channel."""
        names = [*channels, f"w.{name}"]
        return mint(SECRET, user_id=name, read=names, write=names, ttl_minutes=5, now_s=int(time.time()))

    def play(self, fault: str, count: int = 1) -> None:
        """Have this go wrong so often."""
        self._fault = play_on(self._net, fault, count)

    def struck(self) -> bool:
        """Tell whether all of it went wrong."""
        return self._fault.hits == self._fault.count

    def heal(self) -> None:
        """Let everything go well again."""
        heal(self._net)

    def cut(self) -> None:
        """Stop the network."""
        self._net.loop.run(self._net.network.stop())

    def restore(self) -> None:
        """Start it on the same port."""
        self._net.loop.run(self._net.network.start(port=self._net.port))


class MovingNetwork(PubNubNetwork):
    """Be the same, with transports that could move."""

    def transport(self, name: str, grants: Grants | None = None) -> Transport:
        """Open a transport at a place that never changes."""
        where = Whereabouts(SETTLED, find=None, clock=Clock(), entropy=Entropy())
        inner = super().transport(name, grants)
        return MovingTransport(route=where, aim=lambda: "here", open_transport=lambda _: inner, clock=Clock())


class MemoryNetwork:
    """Be the transport inside one process."""

    def __init__(self) -> None:
        self._bus = FaultyBus()
        self._made: list[MemoryTransport] = []
        self.play, self.struck, self.heal = self._bus.play, self._bus.struck, self._bus.heal
        self.cut, self.restore = self._bus.cut, self._bus.restore

    def transport(self, name: str, grants: Grants | None = None) -> Transport:  # noqa: ARG002 - nothing is guarded
        """Open a transport."""
        self._made.append(MemoryTransport(self._bus, producer=f"{name}-{len(self._made)}"))
        return self._made[-1]

    def grant(self, name: str, *channels: str) -> str:  # noqa: ARG002 - nothing is guarded
        """Return nothing: everybody may do everything."""
        return ""

    def close(self) -> None:
        """Close what was opened."""
        for transport in self._made:
            transport.close(Deadline(20))


class LinkNetwork:
    """Be the transport over a link to a hub."""

    def __init__(self, net: LinkNet) -> None:
        self._net = net
        self.transport = net.transport
        self.cut, self.restore = net.stop, net.start

    def grant(self, name: str, *channels: str) -> str:
        """Return a token for these channels."""
        return mint(SECRET, user_id=name, read=channels, write=channels, ttl_minutes=5, now_s=int(time.time()))

    def play(self, fault: str, count: int = 1) -> None:
        """Have this go wrong so often."""
        if fault not in LINK_FAULTS:
            pytest.skip("a link keeps the order of what it carries")
        self._net.spoiled.fault, self._net.spoiled.left = fault, count

    def struck(self) -> bool:
        """Tell whether all of it went wrong."""
        return not self._net.spoiled.left

    def heal(self) -> None:
        """Let everything go well again."""
        self._net.spoiled.fault = ""
        self._net.loop.call(self._net.spoiled.healed.set)


@pytest.fixture(params=["memory", "pubnub", "moving", "hublink"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    """Give a network without access control."""
    if request.param == "hublink":
        with LoopThread("links") as loop, link_net(loop, tmp_path) as net:
            yield LinkNetwork(net)
        return
    if request.param == "memory":
        memory = MemoryNetwork()
        yield memory
        memory.close()
        return
    with networks() as start, transports() as make:
        yield (MovingNetwork if request.param == "moving" else PubNubNetwork)(start(), make)


@pytest.fixture(params=["pubnub", "hublink"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    """Give a network with access control."""
    if request.param == "hublink":
        with LoopThread("links") as loop, link_net(loop, tmp_path, secret=SECRET) as net:
            yield LinkNetwork(net)
        return
    with networks() as start, transports() as make:
        yield PubNubNetwork(start(secret=SECRET), make)


def say(*numbers: int) -> list[dict[str, Any]]:
    """Return messages with these numbers."""
    return [{"i": number} for number in numbers]


def test_every_message_comes_once_and_in_order(network: Network) -> None:
    """Single and gathered messages of one sender arrive as they were sent."""
    inbox = Inbox(network.transport("reader").subscribe(["a"]))
    sender = network.transport("sender")
    for start in range(0, 500, 5):
        sender.publish("a", say(start), Deadline(20))
        sender.publish("a", say(*range(start + 1, start + 5)), Deadline(20))

    assert inbox.until(500) == list(range(500))
    assert [message.number for message in inbox.messages] == list(range(1, 501))
    assert len({message.producer for message in inbox.messages}) == 1


def test_one_call_may_hold_more_than_one_publish_takes(network: Network) -> None:
    """A thousand messages handed over together arrive in order."""
    inbox = Inbox(network.transport("reader").subscribe(["a"]))
    network.transport("sender").publish("a", [{"i": number, "x": "y" * 400} for number in range(1000)], Deadline(20))

    assert inbox.until(1000) == list(range(1000))


def test_a_burst_beyond_the_queue_loses_nothing(network: Network) -> None:
    """An owner that sleeps through 450 messages of 3 senders finds all of them. [A15]"""
    inbox = Inbox(network.transport("reader").subscribe(["a", "b", "c"]))
    senders = [threading.Thread(target=_send, args=(network.transport(f"s{name}"), name, 150)) for name in "abc"]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    inbox.until(450, 30)
    for name in "abc":
        assert [m.body["i"] for m in inbox.messages if m.channel == name] == list(range(150))


def _send(transport: Transport, channel: str, count: int) -> None:
    for number in range(count):
        transport.publish(channel, say(number), Deadline(20))


def test_the_first_word_is_that_it_is_connected(network: Network) -> None:
    """The owner hears how things stand before anything else."""
    inbox = Inbox(network.transport("reader").subscribe(["a"])).gather(lambda inbox: inbox.statuses)

    assert inbox.links() == ["connected"]


def test_the_set_may_change_at_any_time(network: Network) -> None:
    """A channel that was added brings what is said from then on, one that was dropped nothing more."""
    subscription = network.transport("reader").subscribe(["a"])
    inbox, sender = Inbox(subscription), network.transport("sender")

    subscription.set_channels(["a", "b"])
    sender.publish("b", say(1), Deadline(20))
    assert inbox.until(1) == [1]

    subscription.set_channels(["b"])
    sender.publish("b", say(2), Deadline(20))
    inbox.until(2)
    sender.publish("a", say(3), Deadline(20))
    sender.publish("b", say(4), Deadline(20))
    assert inbox.until(3) == [1, 2, 4]


def test_a_hundred_changes_lose_nothing(network: Network) -> None:
    """Each channel is heard as soon as it was added."""
    subscription = network.transport("reader").subscribe([])
    inbox, sender = Inbox(subscription), network.transport("sender")
    for number in range(100):
        subscription.set_channels([f"c{number}", f"c{number - 1}"])
        sender.publish(f"c{number}", say(number), Deadline(20))

        assert inbox.until(number + 1)[-1] == number


def test_closing_ends_the_waiting_owner_and_all_threads(network: Network) -> None:
    """Whoever waits in receive is told; no thread of the transport is left."""
    transport = network.transport("reader")
    before = set(threading.enumerate())
    subscription = transport.subscribe(["a"])
    told = threading.Event()

    def own() -> None:
        try:
            while True:
                subscription.receive()
        except TransportClosedError:
            told.set()

    owner = threading.Thread(target=own)
    owner.start()
    transport.close(Deadline(20))

    assert told.wait(30)
    owner.join()
    left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("pubnub")]
    assert left == []


def test_a_closed_transport_says_so(network: Network) -> None:
    """Nothing is published or subscribed after the end, and ending twice is no error."""
    transport = network.transport("x")
    transport.close(Deadline(20))
    transport.close(Deadline(20))

    with pytest.raises(TransportClosedError):
        transport.publish("a", say(1), Deadline(1))
    with pytest.raises(TransportClosedError):
        transport.subscribe(["a"])


def test_there_is_one_subscription(network: Network) -> None:
    """A second one is an error of the caller."""
    transport = network.transport("x")
    transport.subscribe(["a"])

    with pytest.raises(ValueError, match="subscription"):
        transport.subscribe(["b"])


@pytest.mark.parametrize(
    ("bad", "error"),
    [({"x": "y" * 30_000}, MessageTooLargeError), ({"x": float("nan")}, InvalidMessageError)],
)
def test_what_can_not_travel_sends_nothing(network: Network, bad: dict[str, Any], error: type[Exception]) -> None:
    """Of a call with one bad message none is sent, and the numbers have no hole. [A16]"""
    inbox, sender = Inbox(network.transport("reader").subscribe(["a"])), network.transport("sender")
    with pytest.raises(error):
        sender.publish("a", [{"i": 0}, bad], Deadline(20))
    sender.publish("a", say(1), Deadline(20))

    assert inbox.until(1) == [1]
    assert inbox.messages[0].number == 1


def test_publishing_nothing_is_no_error(network: Network) -> None:
    """An empty call does nothing."""
    network.transport("x").publish("a", [], Deadline(1))


def test_a_network_that_was_away_is_found_again(network: Network) -> None:
    """The owner hears of the cut and of the return, that something may be missing, and then of new messages. [A4]"""
    inbox, sender = Inbox(network.transport("reader").subscribe(["a"])), network.transport("sender")
    sender.publish("a", say(1), Deadline(20))
    inbox.until(1)

    network.cut()
    inbox.gather(lambda inbox: "retrying" in inbox.links())
    network.restore()
    inbox.gather(lambda inbox: "recovered" in inbox.links() and inbox.gaps, 60)
    sender.publish("a", say(2), Deadline(20))

    assert inbox.until(2) == [1, 2]
    assert [gap.filled for gap in inbox.gaps] == [False]


def test_a_publish_waits_for_a_network_that_is_away(network: Network) -> None:
    """It is repeated until the deadline, and goes through when there is a network again."""
    sender = network.transport("sender")
    network.cut()
    with pytest.raises(PublishTimeoutError):
        sender.publish("a", say(1), Deadline(0.3))

    publishing = threading.Thread(target=sender.publish, args=("a", say(2), Deadline(60)))
    publishing.start()
    network.restore()
    publishing.join(60)
    assert not publishing.is_alive()


def test_a_refused_token_is_renewed_and_nothing_is_lost(guarded: Network) -> None:
    """Reader and sender ask for another token once, and go on from where they were. [A13]"""
    for_reader = Tokens("refused", guarded.grant("reader", "a"))
    for_sender = Tokens("refused", guarded.grant("sender", "a"))
    inbox = Inbox(guarded.transport("reader", for_reader).subscribe(["a"]))
    guarded.transport("sender", for_sender).publish("a", say(1), Deadline(20))

    assert inbox.until(1) == [1]
    assert (for_reader.refreshed, for_sender.refreshed) == (1, 1)


def test_a_right_that_is_not_there_is_no_publish(guarded: Network) -> None:
    """A publish without the right is refused for good."""
    sender = guarded.transport("sender", Tokens(guarded.grant("sender", "other")))

    with pytest.raises(PublishRefusedError):
        sender.publish("a", say(1), Deadline(20))


class Narrowed(Tokens):
    """A token that covers a channel less; the refusal comes while the owner leaves that channel."""

    subscription: Any = None

    def refresh(self, refused: str | None) -> bool:
        """Have the channel left; there is no other token."""
        if self.subscription is not None:
            self.subscription.set_channels(["b"])
        return super().refresh(refused)

    def narrow(self, token: str) -> None:
        """Hold this one from now on."""
        self._token = token


def test_a_refusal_of_what_was_left_is_nobodys(guarded: Network) -> None:
    """A poll that still listed a channel that was just left is made again: no other channel is refused for it."""
    tokens = Narrowed(guarded.grant("reader", "a", "b"))
    subscription = guarded.transport("reader", tokens).subscribe(["a", "b"])
    inbox = Inbox(subscription).gather(lambda inbox: inbox.statuses)
    sender = guarded.transport("sender", Tokens(guarded.grant("sender", "b")))
    tokens.subscription = subscription
    tokens.narrow(guarded.grant("reader", "b"))
    for number in range(3):
        sender.publish("b", say(number), Deadline(20))
        inbox.until(number + 1)

    assert inbox.said() == [0, 1, 2]
    assert "unauthorized" not in inbox.links()


def test_one_refused_channel_does_not_deafen_the_rest(guarded: Network) -> None:
    """The owner hears which is refused, goes on with the others, and misses nothing once it has the right."""
    tokens = Tokens(guarded.grant("reader", "a"))
    inbox = Inbox(guarded.transport("reader", tokens).subscribe(["a"]))
    inbox.gather(lambda inbox: inbox.statuses)
    inbox.subscription.set_channels(["a", "b"])
    inbox.gather(lambda inbox: "unauthorized" in inbox.links())
    sender = guarded.transport("sender", Tokens(guarded.grant("sender", "a", "b")))
    sender.publish("b", say(1), Deadline(20))
    sender.publish("a", say(2), Deadline(20))
    assert inbox.until(1) == [2]
    assert inbox.statuses[-1].channels == ("b",) or inbox.statuses[-2].channels == ("b",)

    tokens.fresh = guarded.grant("reader", "a", "b")
    tokens.refresh(None)
    sender.publish("a", say(3), Deadline(20))
    assert sorted(inbox.until(3)) == [1, 2, 3]


@pytest.mark.parametrize("fault", KINDS)
def test_no_fault_loses_or_repeats_a_message(network: Network, fault: str) -> None:
    """Whatever goes wrong on the way, each message is handed over once, and the next ones come as ever. [A7, A8]"""
    inbox, sender = Inbox(network.transport("reader").subscribe(["a"])), network.transport("sender")
    sender.publish("a", say(0), Deadline(20))
    inbox.until(1)

    network.play(fault)
    sending = threading.Thread(target=_send, args=(sender, "a", 5))
    sending.start()
    if fault == "hang":
        wait_until(network.struck, what="a publish hangs")
        network.heal()
    sending.join(60)
    inbox.until(6)
    network.heal()
    sender.publish("a", say(9), Deadline(20))

    assert sorted(inbox.until(7)) == [0, 0, 1, 2, 3, 4, 9]
    assert not [gap for gap in inbox.gaps if not gap.filled]


def test_a_publish_that_is_not_answered_ends_with_its_deadline(network: Network) -> None:
    """The caller hears that nobody knows whether it came."""
    sender = network.transport("sender")
    network.play("cut", 1000)

    with pytest.raises(PublishTimeoutError):
        sender.publish("a", say(1), Deadline(0.5))
