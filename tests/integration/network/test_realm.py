"""What is kept, who is woken, what a full buffer drops."""

import http.client
import threading

from localnet import Net, NetworkMaker
from support import wait_until

from blocks_worker.concurrency import Clock


class MovableClock(Clock):
    """Be a clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wall_ahead = 0

    def monotonic(self) -> float:
        """Return the real time and what it was moved by."""
        return super().monotonic() + self.ahead

    def wall_ticks(self) -> int:
        """Return the wall's time and what it was moved by."""
        return super().wall_ticks() + self.wall_ahead


def test_held_poll_returns_on_publish(net: Net) -> None:
    """A poll that found nothing is answered by the next message, whole."""
    cursor = net.cursor("room")
    held = net.held("room", cursor)
    tt = net.publish("room", "now")

    answered = held.result().json

    assert [each["d"] for each in answered["m"]] == ["now"]
    assert answered["t"]["t"] == str(tt)
    assert net.waiting() == 0


def test_only_who_listens_is_woken(net: Net) -> None:
    """A message of another channel leaves a poll held."""
    cursor = net.cursor("room")
    held = net.held("room", cursor)
    net.publish("elsewhere", 1)
    net.publish("room", 2)

    assert [each["d"] for each in held.result().json["m"]] == [2]


def test_what_is_published_in_one_turn_travels_together(net: Net) -> None:
    """Messages published from inside in one turn of the loop make one answer."""
    held = net.held("a,b", net.cursor())

    def burst() -> list[int]:
        return [net.network.publish("sub-test", channel, b'{"x":1}') for channel in ("a", "b", "a")]

    tts = net.loop.call(burst)

    answered = held.result().json

    assert [int(each["p"]["t"]) for each in answered["m"]] == tts
    assert {each["i"] for each in answered["m"]} == {"hub"}


def test_many_polls_of_one_user(net: Net) -> None:
    """Stale polls of one user do not hinder the fresh one: each gets the message. [2.14]"""
    cursor = net.cursor("room")
    polls = [net.held("room", cursor, uuid="same") for _ in range(4)]
    net.publish("room", 1)

    assert [len(poll.result().json["m"]) for poll in polls] == [1, 1, 1, 1]


def test_disconnect_drops_the_waiting_poll(net: Net) -> None:
    """A client that goes away leaves no poll behind."""
    cursor = net.cursor("room")
    connection = http.client.HTTPConnection("127.0.0.1", net.port)
    connection.request("GET", f"/v2/subscribe/sub-test/room/0?tt={cursor}")
    wait_until(lambda: net.waiting() == 1, what="the poll is held")
    connection.close()

    wait_until(lambda: net.waiting() == 0, what="the poll is dropped")


def test_overflow_keeps_the_newest(start_network: NetworkMaker) -> None:
    """A reply carries at most N messages over all channels, the newest, and moves the cursor past the lost."""
    net = start_network(retention_limit=5)
    cursor = net.cursor()
    tts = [net.publish(f"room-{number % 3}", number) for number in range(12)]

    answered = net.poll("room-0,room-1,room-2", cursor)

    assert [each["d"] for each in answered["m"]] == [7, 8, 9, 10, 11]
    assert answered["t"]["t"] == str(tts[-1])


def test_retention_counts_per_channel(start_network: NetworkMaker) -> None:
    """A busy channel does not push a quiet one out of the buffer."""
    net = start_network(retention_limit=3)
    cursor = net.cursor()
    net.publish("quiet", "still here")
    for number in range(10):
        net.publish("busy", number)

    assert [each["d"] for each in net.poll("quiet", cursor)["m"]] == ["still here"]
    assert [each["d"] for each in net.poll("busy", cursor)["m"]] == [7, 8, 9]


def test_retention_age(start_network: NetworkMaker) -> None:
    """What is older than the retention is gone for pollers while the history still has it."""
    clock = MovableClock()
    net = start_network(clock=clock, retention_age=60.0, hold=0.05)
    cursor = net.cursor()
    net.publish("room", "old")
    clock.ahead = 61.0

    assert net.poll("room", cursor)["m"] == []
    assert len(net.get("/v3/history/sub-key/{sub}/channel/room").json["channels"]["room"]) == 1


def test_timetokens_rise_while_the_clock_goes_back(start_network: NetworkMaker) -> None:
    """Each timetoken is above the last though the host's clock is set back. [2.14]"""
    clock = MovableClock()
    net = start_network(clock=clock)
    cursor = net.cursor()
    tts = []
    for number in range(6):
        tts.append(net.publish("room", number))
        clock.wall_ahead -= 36_000_000_000

    assert tts == sorted(set(tts))
    assert [each["d"] for each in net.poll("room", cursor)["m"]] == [0, 1, 2, 3, 4, 5]


def test_two_pollers_from_one_cursor_lose_nothing(net: Net) -> None:
    """Polling in a loop while others publish gives every message once and in order."""
    cursor = net.cursor("room")

    def publish(start: int) -> None:
        for number in range(start, start + 40):
            net.publish("room", number)

    publishers = [threading.Thread(target=publish, args=(start,)) for start in (0, 1000)]
    for publisher in publishers:
        publisher.start()
    got: list[int] = []
    while len(got) < 80:
        answered = net.poll("room", cursor)
        cursor = int(answered["t"]["t"])
        got += [each["d"] for each in answered["m"]]
    for publisher in publishers:
        publisher.join()

    assert sorted(got) == [*range(40), *range(1000, 1040)]
    assert [number for number in got if number < 1000] == list(range(40))


def test_held_wildcard_poll(net: Net) -> None:
    """A poll held on a wildcard is woken by a channel that matches, and by no presence event of it."""
    held = net.held("foo.%2A", net.cursor())
    net.publish("foobar", 0)
    net.publish("foo.x-pnpres", 0)
    net.publish("foo.bar", 1)

    (message,) = held.result().json["m"]

    assert (message["c"], message["b"]) == ("foo.bar", "foo.*")
