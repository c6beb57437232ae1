"""Much at once, large or slow: events of a task that nobody hears yet, a reader who was away, a callback that lags."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_proxy import FaultProxy, cdm_through

from blocks_worker import TaskClient
from blocks_worker.errors import MessageTooLargeError
from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
#: More than the network keeps of a channel.
MANY = 1_000


class Emitter:
    """A handler that publishes as many artifacts as the text says, each its number."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.ended = 0

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        self.go.wait(30)
        for number in range(int(task.text())):
            ctx.publish_artifact(str(number))
        self.ended += 1
        return "all"


@pytest.fixture(scope="module")
def emitter() -> Emitter:
    """Return the handler of this file."""
    return Emitter()


@pytest.fixture(scope="module")
def stack(emitter: Emitter) -> Iterator[LocalStack]:
    """Run a system for the tests of this file."""
    agents = {
        "emits": {"handler": emitter, "concurrency": 4},
        "echoes": lambda task: task.text(),
        "repeats": lambda task: task.text()[0] * int(task.text()[1:]),
    }
    with LocalStack(agents) as made:
        yield made


def in_order(session: Any, count: int) -> bool:
    """Tell whether the session has all artifacts, numbered as they were said."""
    said = [event for event in session if event.type == "artifact"]
    texts = [session.download_artifact(event.artifact_ref).text() for event in said]
    return texts == [*map(str, range(count)), "all"]


@pytest.mark.timeout(900)
def test_what_is_said_at_once_is_not_missed(request: pytest.FixtureRequest, stack: LocalStack) -> None:
    """A hundred events in the first moment of each run: whoever sent it has all of them, in order. [A10]"""
    for _ in range(1_000 if request.config.getoption("--long") else 25):
        with stack.client.send_message("emits", "100") as session:
            assert in_order(session, 100)


def test_who_was_away_for_longer_than_the_network_remembers(
    stack: LocalStack, emitter: Emitter, tmp_path: Path
) -> None:
    """Cut off while a thousand events are said, ten times what the network keeps: all are shown, in order. [A9]"""
    with urllib.request.urlopen(f"{stack.url}/api/v1/cdm") as answer:  # noqa: S310 - our own hub
        document = json.load(answer)

    class Cdm:
        json = document

    with FaultProxy(stack.url) as hub, FaultProxy(document["origin"]) as network:
        cdm = cdm_through(Cdm(), tmp_path, hub=hub, network=network)  # type: ignore[arg-type]  # its document is asked
        with TaskClient.create("free", cdm_url=cdm, api_key=stack.api_key) as client:
            assert client.run("echoes", "listening", 20).text == "listening"
            emitter.go.clear()
            session = client.send_message("emits", str(MANY))
            wait_until(lambda: session.state == "running", 20, "the run")
            before = emitter.ended
            hub.cut()
            network.cut()
            emitter.go.set()
            wait_until(lambda: emitter.ended > before, 60, "all is said")
            heard = len(session.list_events())
            hub.heal()
            network.heal()

            assert heard < 10, "it was cut off"
            assert in_order(session, MANY)


@pytest.mark.timeout(900)
def test_a_slow_callback_holds_nobody_up_and_misses_no_artifact(
    request: pytest.FixtureRequest, stack: LocalStack
) -> None:
    """The task is over long before its callback is; the callback hears all that lasts, in little memory. [A15]"""
    many = 50_000 if request.config.getoption("--long") else 600
    told: list[str] = []
    over = threading.Event()
    with stack.client.send_message("emits", str(many)) as session:

        def slow(event: Any) -> None:
            over.wait(600)
            told.append(session.download_artifact(event.artifact_ref).text())

        before = memory()
        session.on_artifact(slow)
        session.wait_for_terminal(600)
        behind = many + 1 - len(told)
        over.set()
        wait_until(lambda: len(told) == many + 1, 600, "all are told")

    assert behind > many // 10, "the callback was not slower than the events"
    assert told == [*map(str, range(many)), "all"]
    assert memory() - before < 20 * MIB + many * 2048


def memory() -> int:
    """Return the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("letter", ["a", "ä", "\u2028", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 10 * MIB])
def test_any_size_and_any_letter_arrives_whole(stack: LocalStack, size: int, letter: str) -> None:
    """Below, at and above what travels inside a message, and far above, however it is escaped: it arrives. [A16]"""
    count = size // len(letter.encode())

    assert stack.run("repeats", f"{letter}{count}", 60).text == letter * count
    if size < MIB:
        assert stack.run("echoes", letter * count, 60).text == letter * count
    else:
        with pytest.raises(MessageTooLargeError, match="send a reference instead"):
            stack.run("echoes", letter * count, 60)


def test_presence_that_flaps_changes_nothing(stack: LocalStack) -> None:
    """The network says of a worker that it left and came, again and again: it is ready all the while. [A18]"""
    document = json.loads(ask(f"{stack.url}/api/v1/cdm"))
    base = f"{document['origin']}/v2/presence/sub-key/{document['playground']['subscribeKey']}"
    name = stack.agents["echoes"].instance_id

    def channels() -> list[str]:
        return list(json.loads(ask(f"{base}/uuid/{name}"))["payload"]["channels"])

    (control,) = [channel for channel in channels() if channel.endswith(".control")]
    for number in range(25):
        # It comes back by itself with its next poll, which may be right now.
        wait_until(lambda: left(f"{base}/channel/{control}", name, channels), what="the network believes that it left")
        shown = json.loads(ask(f"{stack.url}/api/v1/registry/agents?agentName=echoes"))
        states = {row["state"] for row in shown["agent"]["instances"]}
        ask(f"{base}/channel/{control}/heartbeat?uuid={name}")

        assert states == {"ready"}
        assert stack.run("echoes", str(number), 20).text == str(number)


def left(channel: str, name: str, channels: Callable[[], list[str]]) -> bool:
    """Have the network believe that somebody left a channel; tell whether it does."""
    ask(f"{channel}/leave?uuid={name}")
    return channel.rpartition("/")[2] not in channels()


def ask(url: str) -> bytes:
    """Return what an address answers."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own hub and network
        return bytes(answer.read())
