"""The PubNub transport on a network that plays faults: nothing is lost, nobody goes deaf."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from localnet import KEYS, networks
from pubnub_pair import Inbox, Tokens, transports
from support import wait_until

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.network.access import mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localnet import Net

    from blocks_worker.transports.pubnub.transport import PubNubTransport

SECRET = b"secret-of-the-network"


@pytest.fixture
def net() -> Iterator[Net]:
    """Give a network whose empty polls are short."""
    with networks() as start:
        yield start(hold=1.0, testing=True)


@pytest.fixture
def make() -> Iterator[Callable[..., PubNubTransport]]:
    """Give a function that opens transports."""
    with transports() as make:
        yield make


def say(transport: PubNubTransport, *numbers: int) -> None:
    """Publish each number for itself."""
    for number in numbers:
        transport.publish("a", [{"i": number}], Deadline(20))


def play(net: Net, *arguments: Any, **options: Any) -> Any:
    """Add a fault."""
    return net.loop.call(net.network.faults.add, *arguments, **options)


def pair(net: Net, make: Callable[..., PubNubTransport]) -> tuple[Inbox, PubNubTransport, PubNubTransport]:
    """Return what comes on "a", its reader, and a sender whose first message came."""
    reader, sender = make(net.port, "reader", hold=1.0), make(net.port, "sender")
    inbox = Inbox(reader.subscribe(["a"]))
    say(sender, 0)
    inbox.until(1)
    return inbox, reader, sender


def test_every_publish_loses_its_answer(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """Each is taken and not acknowledged, so each is sent again, and each message comes once. [A7]"""
    inbox, reader, sender = pair(net, make)
    for number in range(1, 21):
        fault = play(net, "commit_then", r"^POST /publish", then="drop")
        say(sender, number)
        assert fault.hits == 1

    assert inbox.until(21) == list(range(21))
    wait_until(lambda: reader.counters.get("duplicates", 0) >= 20, what="all repetitions came, and were dropped")


@pytest.mark.parametrize("outage", ["refused", "reset", "dark", "restarted"])
def test_what_is_said_during_an_outage_comes_after_it(
    net: Net, make: Callable[..., PubNubTransport], outage: str
) -> None:
    """250 messages that the network took while the reader was cut off are all delivered, in order. [A4]"""
    inbox, _, _ = pair(net, make)
    faults = net.network.faults
    begin = {
        "refused": lambda: net.loop.run(faults.refuse()),
        "reset": lambda: play(net, "rst", "", count=None),
        "dark": lambda: net.loop.call(faults.blackhole),
        "restarted": lambda: net.loop.run(faults.refuse()),
    }
    end = {
        "refused": lambda: net.loop.run(faults.accept()),
        "reset": lambda: net.loop.call(faults.clear),
        "dark": lambda: net.loop.call(faults.heal),
        "restarted": lambda: net.loop.run(faults.restart(keep=True)),
    }
    begin[outage]()
    for number in range(1, 251):
        body = {"v": 1, "from": "hub", "n": number, "b": [{"i": number}]}
        net.loop.call(net.network.publish, KEYS.subscribe_key, "a", json.dumps(body).encode())
    end[outage]()

    assert inbox.until(251, 40) == list(range(251))
    assert False not in [gap.filled for gap in inbox.gaps]


def test_a_network_that_forgot_says_so(net: Net, make: Callable[..., PubNubTransport]) -> None:
    """A restart that kept nothing is a gap which nobody can fill."""
    inbox, _, sender = pair(net, make)
    net.loop.run(net.network.faults.restart())
    inbox.gather(lambda inbox: inbox.gaps)
    say(sender, 1)

    assert inbox.until(2) == [0, 1]
    assert [gap.filled for gap in inbox.gaps] == [False]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *[("status", {"status": status}) for status in (400, 404, 429, 500, 503)],
        *[("malformed", {"body": body}) for body in (b"", b"{}", b"[]", b"null", b"5", b"\xff", b'{"t":{},"m":[{}]}')],
        ("drop", {}),
        ("rst", {}),
        ("garbage", {}),
        ("truncate", {}),
        ("hang", {}),
    ],
)
def test_nobody_goes_deaf(net: Net, make: Callable[..., PubNubTransport], kind: str, how: dict[str, Any]) -> None:
    """The next message comes soon after the network is well, on the thread that was there."""
    inbox, _, sender = pair(net, make)
    readers = {t.name for t in threading.enumerate() if t.name.startswith("pubnub-")}
    fault = play(net, kind, "/v2/subscribe", count=None, **how)
    wait_until(lambda: fault.hits >= (1 if kind == "hang" else 2), what="it was met")
    net.loop.call(net.network.faults.clear)
    net.loop.call(net.network.faults.heal)
    say(sender, 1)

    # Who was told to slow down takes some seconds until the next poll.
    assert inbox.until(2, 30) == [0, 1]
    assert readers <= {t.name for t in threading.enumerate()}


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_events_of_other_kinds_pass_by(net: Net, make: Callable[..., PubNubTransport], kind: int) -> None:
    """Signals, files and the like, which kill the manager of the SDK, are counted and no more."""
    inbox, _, sender = pair(net, make)
    net.loop.call(net.network.faults.poison, "a", b'{"odd":1}', kind=kind)
    say(sender, 1)

    assert inbox.until(2) == [0, 1]


@pytest.mark.parametrize("payload", [b'{"x":' * 2000 + b"1" + b"}" * 2000, b"9" * 5000])
def test_poison_on_a_busy_channel_costs_itself_only(
    net: Net, make: Callable[..., PubNubTransport], payload: bytes
) -> None:
    """A payload that no parser reads, live or in history, takes no other message with it."""
    inbox, _, sender = pair(net, make)
    say(sender, *range(1, 21))
    net.loop.call(net.network.faults.poison, "a", payload)
    say(sender, *range(21, 41))

    assert sorted(inbox.until(41, 30)) == list(range(41))


@pytest.mark.parametrize("end", ["expire", "revoke"])
def test_a_token_that_ends_loses_nothing(make: Callable[..., PubNubTransport], end: str) -> None:
    """The position is kept over the refusal, a remembered one too, and the next token goes on from it. [A13]"""
    with networks() as start:
        net = start(hold=1.0, secret=SECRET)
        old, fresh, other = (_token(name, ttl) for name, ttl in (("reader", 5), ("reader", 6), ("sender", 5)))
        tokens = Tokens(old, fresh)
        reader = make(net.port, "reader", hold=1.0, grants=tokens)
        inbox = Inbox(reader.subscribe(["a"]))
        sender = make(net.port, "sender", grants=Tokens(other))
        net.loop.call(net.network.faults.cache_403, 30)
        net.loop.call(getattr(net.network.faults, end), old)
        say(sender, *range(5))

        assert inbox.until(5) == list(range(5))
        wait_until(lambda: tokens.refreshed == 1, what="another token was asked for")
        assert inbox.gaps == []
        reader.close(Deadline(5))
        sender.close(Deadline(5))


def _token(name: str, ttl: int) -> str:
    names = ["a", f"w.{name}"]
    return mint(SECRET, user_id=name, read=names, write=names, ttl_minutes=ttl, now_s=int(time.time()))


def test_the_hooks_are_there_over_http_for_tests_only(net: Net) -> None:
    """A network started for testing takes faults over HTTP, any other has no such door."""
    body = json.dumps({"do": "add", "kind": "status", "status": 503, "match": "/time/"}).encode()

    assert net.ask("/_ctl", method="POST", body=body).status == 200
    assert [net.ask("/time/0").status for _ in range(2)] == [503, 200]
    assert net.ask("/_ctl", method="POST", body=b'{"do":"dance"}').status == 400
    net.settings(testing=False)
    assert net.ask("/_ctl", method="POST", body=body).status == 404


def test_history_may_lag_and_lack(net: Net) -> None:
    """Rows are hidden from pages and counts alike until they may be seen."""
    tt = net.publish("a", 1)
    rows = f"/v3/history/sub-key/{KEYS.subscribe_key}/channel/a"
    counts = f"/v3/history/sub-key/{KEYS.subscribe_key}/message-counts/a"
    net.loop.call(net.network.faults.history_lag, 60)
    assert net.ask(rows).json["channels"] == {}
    assert net.ask(counts, timetoken=tt - 1).json["channels"] == {"a": 0}

    net.loop.call(net.network.faults.clear)
    assert len(net.ask(rows).json["channels"]["a"]) == 1
