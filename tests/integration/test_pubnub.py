"""The transport against a network that lies, loses, repeats, hangs and moves."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from canned import reply
from faulty import body_of, faulty
from localnet import KEYS, networks
from pubnub_pair import Inbox, Tokens, transports
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.errors import PublishRefusedError
from blocks_worker.transports.cursor import MemoryCursors
from blocks_worker.transports.pubnub.transport import PubNubSettings, PubNubTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faulty import Faulty
    from localnet import Net

#: Nests deeper than a parser goes.
DEEP = b'{"x":' * 50_000 + b"1" + b"}" * 50_000


@pytest.fixture
def net() -> Iterator[Net]:
    """Give a network whose empty polls are short."""
    with networks() as start:
        yield start(hold=1.0, retention_limit=20)


@pytest.fixture
def proxy(net: Net) -> Iterator[Faulty]:
    """Give a proxy before it."""
    with faulty(net.port) as server:
        yield server


@pytest.fixture
def make() -> Iterator[Callable[..., PubNubTransport]]:
    """Give a function that opens transports."""
    with transports() as make:
        yield make


def say(transport: PubNubTransport, *numbers: int, channel: str = "a") -> None:
    """Publish each number for itself."""
    for number in numbers:
        transport.publish(channel, [{"i": number}], Deadline(20))


def opened(make: Callable[..., PubNubTransport], port: int, **options: Any) -> tuple[Inbox, PubNubTransport]:
    """Subscribe to "a" and return what comes, and the transport."""
    transport = make(port, "reader", hold=1.0, retention_limit=20, **options)
    return Inbox(transport.subscribe(["a"])), transport


def edit(answer: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the reply with its JSON changed."""
    if not body_of(answer):
        return answer  # the network went away
    value = json.loads(body_of(answer))
    change(value)
    return reply(200, json.dumps(value).encode())


def test_a_publish_without_an_answer_is_handed_over_once(
    net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]
) -> None:
    """The network took the message and the line broke: it is sent again under its name, and comes once."""
    dropped = []

    def drop_first(path: str, forward: Callable[[], bytes]) -> bytes | None:
        answer = forward()
        if path.startswith("/publish") and path not in dropped:
            dropped.append(path)
            return None
        return answer

    proxy.rule = drop_first
    inbox, reader = opened(make, net.port)
    sender = make(proxy.port, "sender")
    say(sender, 1, 2, 3)

    assert inbox.until(3) == [1, 2, 3]
    assert dropped
    wait_until(lambda: reader.counters.get("duplicates"), what="the repetition came, and was dropped")
    assert [message.number for message in inbox.messages] == [1, 2, 3]


def test_what_live_delivery_leaves_out_is_found_in_history(
    net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]
) -> None:
    """A hole in a sender's numbers is looked after, and closed."""

    def swallow(path: str, forward: Callable[[], bytes]) -> bytes:
        answer = forward()
        if not path.startswith("/v2/subscribe"):
            return answer

        def without_two(value: dict[str, Any]) -> None:
            value["m"] = [m for m in value["m"] if m["d"]["b"][0].get("i") != 2]

        return edit(answer, without_two)

    proxy.rule = swallow
    inbox, _ = opened(make, proxy.port)
    say(make(net.port, "sender"), 1, 2, 3)

    assert sorted(inbox.until(3)) == [1, 2, 3]
    inbox.gather(lambda inbox: inbox.gaps)
    assert [gap.filled for gap in inbox.gaps] == [True]


def test_what_nobody_has_is_reported(net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]) -> None:
    """A hole that history does not close is told to the owner, who asks the hub."""

    def swallow(_path: str, forward: Callable[[], bytes]) -> bytes:
        answer = forward()

        def without_two(value: Any) -> None:
            if isinstance(value, dict) and "m" in value:
                value["m"] = [m for m in value["m"] if m["d"]["b"][0].get("i") != 2]
            if isinstance(value, dict) and "channels" in value:
                for name, rows in value["channels"].items():
                    if isinstance(rows, list):
                        value["channels"][name] = [row for row in rows if row["message"]["b"][0].get("i") != 2]

        return edit(answer, without_two)

    proxy.rule = swallow
    inbox, _ = opened(make, proxy.port)
    say(make(net.port, "sender"), 1, 2, 3)
    inbox.until(2)
    inbox.gather(lambda inbox: inbox.gaps)

    assert [gap.filled for gap in inbox.gaps] == [False]
    assert (inbox.gaps[0].since, inbox.gaps[0].until) == tuple(m.position for m in inbox.messages)


def test_a_poisoned_reply_stops_nobody(net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]) -> None:
    """A payload that breaks the parser, live and in history, costs itself only."""

    def poison(_path: str, forward: Callable[[], bytes]) -> bytes:
        return reply(200, body_of(forward()).replace(b'{"poison":true}', DEEP).replace(b'{"poison": true}', DEEP))

    proxy.rule = poison
    inbox, reader = opened(make, proxy.port)
    sender = make(net.port, "sender")
    say(sender, 1, 2)
    net.publish("a", {"poison": True})
    say(sender, 3, 4)

    assert sorted(inbox.until(4, 60)) == [1, 2, 3, 4]
    inbox.gather(lambda inbox: False in [gap.filled for gap in inbox.gaps])
    assert reader.counters["dead_letter.unreadable"] == 1
    pages = [path for path in proxy.asked if "/history/" in path and "message-counts" not in path]
    assert len(pages) <= 60
    say(sender, 5)
    assert inbox.until(5)[-1] == 5


@pytest.mark.parametrize(
    "junk",
    [7, "text", None, {"v": 1}, {"v": 1, "from": "x", "n": 1, "b": [[]]}, json.loads('{"x":' * 200 + "1" + "}" * 200)],
)
def test_junk_on_the_channel_is_set_aside(net: Net, make: Callable[..., PubNubTransport], junk: Any) -> None:
    """What is no envelope is counted, and the next message comes."""
    inbox, reader = opened(make, net.port)
    if junk is not None:
        net.publish("a", junk)
    say(make(net.port, "sender"), 1)

    assert inbox.until(1) == [1]
    assert reader.counters.get("dead_letters", 0) == (junk is not None)


def test_a_network_that_moved_and_kept_everything_leaves_no_gap(
    net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]
) -> None:
    """Another region is looked into at once, and what was known is still there."""
    inbox, _ = opened(make, proxy.port)
    sender = make(net.port, "sender")
    say(sender, 1)
    inbox.until(1)

    def move(path: str, forward: Callable[[], bytes]) -> bytes:
        answer = forward()
        return edit(answer, lambda value: value["t"].update(r=700)) if path.startswith("/v2/subscribe") else answer

    proxy.rule = move
    say(sender, 2)
    inbox.until(2)
    inbox.gather(lambda inbox: inbox.gaps)
    assert [gap.filled for gap in inbox.gaps] == [True]


def test_a_restart_goes_on_where_its_owner_had_come(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """What was committed does not come again, what was said meanwhile does, however much it is."""
    cursors, sender = MemoryCursors(), make(net.port, "sender")
    inbox, reader = opened(make, net.port, cursors=cursors)
    say(sender, 1, 2)
    inbox.until(2)
    inbox.subscription.commit(inbox.messages[0].position)
    reader.close(Deadline(5))
    say(sender, *range(3, 250))

    inbox, _ = opened(make, net.port, cursors=cursors)
    assert inbox.until(248) == list(range(2, 250))


def test_a_start_without_a_network_goes_on_in_the_background(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """Subscribing returns after a while; once there is a network the owner hears that something may be missing."""
    net.loop.run(net.network.stop())
    inbox, _ = opened(make, net.port)
    inbox.gather(lambda inbox: "retrying" in inbox.links())
    net.loop.run(net.network.start(port=net.port))
    inbox.gather(lambda inbox: "connected" in inbox.links() and inbox.gaps, 40)
    say(make(net.port, "sender"), 1)

    assert inbox.until(1) == [1]
    assert [gap.filled for gap in inbox.gaps] == [False]


class AheadClock(Clock):
    """Be a wall clock that a test sets."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        """Return the unix time of a machine that slept."""
        return super().wall_ms() + self.ahead_ms


def test_after_a_long_sleep_history_is_asked_first(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """What the network no longer keeps for pollers is found, and the connections are new."""
    clock = AheadClock()
    inbox, reader = opened(make, net.port, clock=clock)
    inbox.gather(lambda inbox: inbox.statuses)
    clock.ahead_ms = 16 * 60 * 1000
    wait_until(lambda: reader.counters.get("jumps"), what="history was asked")
    say(make(net.port, "sender"), 1)

    assert inbox.until(1) == [1]
    wait_until(lambda: reader.counters.get("rebuilds"), what="the connections are new")


def test_a_poll_that_hears_nothing_is_replaced(net: Net, proxy: Faulty, make: Callable[..., PubNubTransport]) -> None:
    """A reader whose poll does not answer its wake is left behind; the next one has the new set."""
    inbox, reader = opened(make, proxy.port)
    inbox.gather(lambda inbox: inbox.statuses)
    hanging, heal = threading.Event(), threading.Event()

    def hang(path: str, forward: Callable[[], bytes]) -> bytes:
        if path.startswith("/v2/subscribe") and not heal.is_set() and not reader.counters.get("rebuilds"):
            hanging.set()
            heal.wait(20)
        return forward()

    proxy.rule = hang
    assert hanging.wait(30)
    inbox.subscription.set_channels(["a", "b"])
    say(make(net.port, "sender"), 1, channel="b")

    assert inbox.until(1, 20) == [1]
    assert reader.counters["rebuilds"] == 1
    heal.set()


@pytest.mark.parametrize("name", ["a b,c", "a/b", "ä*ü", "x:y.z~", "100%"])
def test_odd_names_work_live_and_from_history(net: Net, make: Callable[..., PubNubTransport], name: str) -> None:
    """A channel whose name is encoded in the address loses nothing in an overflow."""
    reader = make(net.port, "reader", hold=1.0, retention_limit=20)
    inbox = Inbox(reader.subscribe([name]))
    sender = make(net.port, "sender")
    say(sender, *range(1100), channel=name)

    assert inbox.until(1100) == list(range(1100))
    assert reader.counters["fill_rows"] > 0


def fds() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("rebuilds", "changes"), [(30, 200), pytest.param(100, 1000, marks=pytest.mark.long)])
def test_rebuilds_and_changes_leave_nothing_behind(
    net: Net, make: Callable[..., PubNubTransport], rebuilds: int, changes: int
) -> None:
    """Threads and descriptors are as many after many rebuilds and set changes."""
    inbox, reader = opened(make, net.port)
    sender = make(net.port, "sender")
    say(sender, 0)
    inbox.until(1)
    inbox.subscription.set_channels(["a", "b"])
    say(sender, 1, channel="b")
    inbox.until(2)
    threads, files = threading.active_count(), fds()
    for number in range(2, rebuilds + 2):
        reader.rebuild("test")
        say(sender, number)
        inbox.until(number + 1)
    for number in range(changes):
        inbox.subscription.set_channels(["a", f"b{number}"])
    say(sender, rebuilds + 2)

    assert inbox.until(rebuilds + 3) == list(range(rebuilds + 3))
    wait_until(lambda: threading.active_count() <= threads + 1, what="no thread more")
    wait_until(lambda: fds() <= files + 2, what="no descriptor more")


def test_the_sdks_own_handler_carries_everything_too(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """Messages, set changes, history and a prompt close work through the SDK's HTTP client as well."""
    before = set(threading.enumerate())
    inbox, reader = opened(make, net.port, own_handler=False)
    sender = make(net.port, "sender", own_handler=False)
    say(sender, 1)
    inbox.until(1)
    inbox.subscription.set_channels(["a", "b"])
    say(sender, 2, channel="b")
    assert inbox.until(2) == [1, 2]
    reader.rebuild("test")
    say(sender, 3)
    assert inbox.until(3) == [1, 2, 3]

    reader.close(Deadline(5))
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("pubnub-reader")]


def test_a_reader_that_publishes_nothing_has_one_connection(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """The second client is built when it is first needed."""
    before = fds()
    inbox, _ = opened(make, net.port)
    inbox.gather(lambda inbox: inbox.statuses)

    wait_until(lambda: fds() <= before + 2, what="one connection")


def test_a_refusal_with_a_status_of_success_is_one(proxy: Faulty, make: Callable[..., PubNubTransport]) -> None:
    """The SDK takes it for success; we do not."""
    proxy.rule = lambda *_: reply(200, b'[0,"no","17"]')

    with pytest.raises(PublishRefusedError):
        say(make(proxy.port, "sender"), 1)


def test_no_token_gets_into_the_log(
    proxy: Faulty, make: Callable[..., PubNubTransport], caplog: pytest.LogCaptureFixture
) -> None:
    """Failures of every kind are told without the token, at any level of ours."""
    caplog.set_level("DEBUG", logger="blocks_worker")
    answers = iter([reply(500, b"x"), reply(403, b"{}"), None, reply(200, b"<html>"), reply(400, b"no")])
    proxy.rule = lambda _path, _forward: next(answers, reply(400, b"no"))
    sender = make(proxy.port, "sender", grants=Tokens("canary-token"))
    with pytest.raises(PublishRefusedError) as caught:
        say(sender, 1)

    assert "canary" not in caplog.text + repr(caught.value) + repr(caught.value.__cause__)
    assert "canary" not in repr(sender)


def test_publishing_needs_no_subscription(net: Net) -> None:
    """A transport that only publishes has no thread."""
    before = set(threading.enumerate())
    settings = PubNubSettings(f"http://127.0.0.1:{net.port}", KEYS.publish_key, KEYS.subscribe_key, "u")
    transport = PubNubTransport(settings, grants=Tokens(), producer="p", clock=Clock(), entropy=Entropy())
    say(transport, 1)

    assert set(threading.enumerate()) <= before
    transport.close(Deadline(5))
