"""A transport whose network moves: what goes along, what the owner is told, what stays behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import TransportClosedError
from blocks_worker.transports.base import Link, Message, Received, Status
from blocks_worker.transports.memory import MemoryBus, MemoryTransport
from blocks_worker.transports.moving import MovingTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class World:
    """Two networks, and somebody who says on which of them we are to be."""

    def __init__(self) -> None:
        self.buses = {"old": MemoryBus(), "new": MemoryBus()}
        self.opened: list[MemoryTransport] = []
        self.told: list[str] = []
        self.aim = "old"
        self.followers: list[Callable[[], None]] = []
        self.follow = self.followers.append
        self.transport = MovingTransport(route=self, aim=lambda: self.aim, open_transport=self._open, clock=Clock())

    def _open(self, aim: str) -> MemoryTransport:
        self.opened.append(MemoryTransport(self.buses[aim], producer=f"us-{len(self.opened)}"))
        return self.opened[-1]

    def leave(self, moved: Callable[[], None]) -> None:
        """Tell it no more."""
        self.followers = [one for one in self.followers if one != moved]

    def lose(self, who: object) -> None:  # noqa: ARG002 - there is one
        """Note it."""
        self.told.append("lose")

    def regain(self, who: object) -> None:  # noqa: ARG002 - there is one
        """Note it."""
        self.told.append("regain")

    def ask(self) -> None:
        """Note it."""
        self.told.append("ask")

    def move(self, aim: str = "new") -> None:
        """Move the network."""
        self.aim = aim
        for follower in list(self.followers):
            follower()

    def say(self, aim: str, number: int, channel: str = "a") -> None:
        """Publish on one of the networks."""
        sender = MemoryTransport(self.buses[aim], producer=f"them-{aim}-{number}")
        sender.publish(channel, [{"i": number}], Deadline(5))
        sender.close(Deadline(5))


@pytest.fixture
def world() -> Iterator[World]:
    """Give the world; close what is open."""
    made = World()
    yield made
    made.transport.close(Deadline(5))


def brief(received: list[Received]) -> list[object]:
    """Return numbers of messages and links of statuses."""
    return [
        item.body["i"] if isinstance(item, Message) else item.link if isinstance(item, Status) else "gap"
        for item in received
    ]


def test_a_subscription_goes_along(world: World) -> None:
    """The same object goes on with the same channels; the owner is told to catch up before anything new comes."""
    subscription = world.transport.subscribe(["a", "b"])
    world.say("old", 1)
    heard = [*subscription.receive(5), *subscription.receive(0)]
    world.say("old", 2)
    world.move()
    world.say("old", 3)
    world.say("new", 4, "b")
    while len(heard) < 4:
        heard.extend(subscription.receive(5))

    assert brief(heard) == [Link.CONNECTED, 1, Link.RECOVERED, 4]


def test_who_waits_is_not_woken_by_the_move(world: World) -> None:
    """An owner that waits in `receive` hears of the new network there, without an exception."""
    subscription = world.transport.subscribe(["a"])
    subscription.receive(5)
    heard: list[Received] = []
    owner = threading.Thread(target=lambda: heard.extend(subscription.receive(10)))
    owner.start()
    world.move()
    owner.join(10)

    assert brief(heard)[:1] == [Link.RECOVERED]


def test_positions_of_the_old_network_stay_there(world: World) -> None:
    """What was taken before the move is not committed after it; what comes after is."""
    subscription = world.transport.subscribe(["a"])
    world.say("old", 1)
    wait_until(lambda: any(isinstance(item, Message) for item in subscription.receive(1)), what="the message")
    world.move()

    subscription.commit(10**17)
    world.say("new", 2)
    wait_until(lambda: any(isinstance(item, Message) for item in subscription.receive(1)), what="the new message")


def test_channels_set_before_and_after(world: World) -> None:
    """The channels of the moment of the move go along, and may be changed as before."""
    subscription = world.transport.subscribe(["a"])
    subscription.set_channels(["b"])
    world.move()
    world.say("new", 1, "a")
    world.say("new", 2, "b")
    subscription.set_channels(["a", "b"])
    world.say("new", 3, "a")

    found: list[object] = []
    wait_until(lambda: found.extend(brief(list(subscription.receive(0.1)))) or 3 in found, what="the last one")
    assert [item for item in found if isinstance(item, int)] == [2, 3]


def test_publishing_goes_to_the_network_of_now(world: World) -> None:
    """What is published after a move is read on the new network, and nothing on the old one."""
    readers = {aim: MemoryTransport(bus, producer=aim).subscribe(["a"]) for aim, bus in world.buses.items()}
    world.move()
    world.transport.publish("a", [{"i": 1}], Deadline(5))

    heard = {aim: [*reader.receive(1), *reader.receive(0.1)] for aim, reader in readers.items()}
    assert {aim: brief(items)[1:] for aim, items in heard.items()} == {"old": [], "new": [1]}
    for reader in readers.values():
        reader.close(Deadline(1))


def test_the_same_place_is_no_move(world: World) -> None:
    """Who is told of a change that is not the network's keeps the transport."""
    world.move("old")

    assert len(world.opened) == 1


def test_the_route_hears_how_it_goes(world: World) -> None:
    """A connection is said, and so is a rebuild: whoever asks for it may be at the wrong network."""
    subscription = world.transport.subscribe(["a"])
    subscription.receive(5)
    world.transport.rebuild("deaf")

    assert world.told == ["regain", "ask"]


def test_a_closed_one_goes_nowhere(world: World) -> None:
    """After the end nothing is opened any more, and the owner hears that it was closed."""
    subscription = world.transport.subscribe(["a"])
    world.transport.close(Deadline(5))
    world.move()

    assert len(world.opened) == 1
    with pytest.raises(TransportClosedError):
        subscription.receive(1)


def test_moves_under_load(world: World) -> None:
    """Twenty moves to and fro while the owner reads: he is told of each, and no thread dies of it."""
    subscription = world.transport.subscribe(["a"])
    heard: list[Received] = []

    def read() -> None:
        try:
            while True:
                heard.extend(subscription.receive(1))
        except TransportClosedError:
            return

    owner = threading.Thread(target=read)
    owner.start()
    for number in range(20):
        aim = ("new", "old")[number % 2]
        world.move(aim)
        world.say(aim, number)
        wait_until(lambda number=number: number in brief(heard), what=f"message {number}")  # type: ignore[misc]
    world.transport.close(Deadline(5))
    owner.join(5)

    assert not owner.is_alive()
    assert brief(heard).count(Link.RECOVERED) == 20
