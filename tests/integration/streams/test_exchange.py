"""All streams of one process on one connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from localnet import networks
from pubnub_pair import Tokens, transports
from support import wait_until
from support_streams import ENTROPY, Side, in_background, listen

from blocks_worker.concurrency import Clock
from blocks_worker.errors import StreamWriteError
from blocks_worker.streams.exchange import MOST_STREAMS
from blocks_worker.streams.pace import ACK_QUIET
from blocks_worker.streams.writer import PROBE_AFTER
from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Deadline


def test_many_streams_share_one_connection(side: Callable[[], Side]) -> None:
    """They come and go, and take nothing from each other [R-36]."""
    agent, consumer = side(), side()
    before = {thread.name for thread in threading.enumerate()}
    pairs = []
    for number in range(8):
        writer, position = agent.writer(f"t-{number}")
        pairs.append((writer, consumer.reader(writer, position)))
    for number, (writer, _) in enumerate(pairs):
        for item in range(5):
            writer.write([number, item])
        writer.end()

    for number, (_, reader) in enumerate(pairs):
        assert list(reader.events()) == [[number, item] for item in range(5)]
    new = [thread.name for thread in threading.enumerate() if thread.name not in before]
    assert new.count("stream-reader") <= 2
    assert new.count("stream-sender") <= 2


def test_there_is_a_bound_and_ended_ones_make_room(side: Callable[[], Side]) -> None:
    """So many may be open; one that has ended goes before its time [R-41]."""
    agent = side()
    streams = [agent.writer(f"t-{number}")[0] for number in range(MOST_STREAMS)]
    with pytest.raises(RuntimeError, match=f"{MOST_STREAMS} streams are open"):
        agent.writer("t-more")
    streams[7].end()
    agent.writer("t-more")

    assert len(agent.exchange.endpoints()) == MOST_STREAMS
    assert ("t", "t-7") not in agent.grants.held
    assert ("t", "t-more") in agent.grants.held


def test_an_ended_reader_leaves(side: Callable[[], Side]) -> None:
    """Nobody has to close what has ended: neither its place nor its grant is kept [R-44]."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    writer.write("a")
    writer.end()

    assert list(reader.events()) == ["a"]
    wait_until(lambda: not consumer.exchange.endpoints() and not consumer.grants.held)


def test_two_readers_of_one_process_get_everything(side: Callable[[], Side]) -> None:
    """The second reads a channel that is read already, and is given what it missed [R-20]."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    first = consumer.reader(writer, position)
    for number in range(10):
        writer.write(number)
    heard = first.events()
    assert [next(heard) for _ in range(10)] == list(range(10))
    second = consumer.reader(writer, position, task_id="u")
    late = second.events()

    assert in_background(lambda: [next(late) for _ in range(10)])(30) == list(range(10))
    writer.end()
    assert list(heard) == []
    assert list(late) == []


def test_a_reader_that_leaves_takes_no_right_from_another(side: Callable[[], Side]) -> None:
    """Two in one process read under one grant: it covers their stream until the last has gone. [R-43]"""
    consumer, agent = side(), side()
    writer, position = agent.writer()
    first, second = (consumer.reader(writer, position) for _ in range(2))
    first.close()
    wait_until(lambda: first.endpoint not in consumer.exchange.endpoints(), 10, "the first to leave")

    assert consumer.grants.held == [("t", "t-1")]
    second.close()
    wait_until(lambda: not consumer.grants.held, 10, "the second to leave")


def test_a_shared_stream_is_read_from_ones_own_start(side: Callable[[], Side]) -> None:
    """A new reader sees nothing of before, at once what comes, and ends where its task says [R-20]."""
    agent, consumer = side(), side()
    writer, _ = agent.writer()
    for number in range(300):
        writer.write(number)
    assert writer.endpoint.writer is not None
    first = writer.endpoint.writer.framed(5)
    position = agent.exchange.position()
    reader = consumer.reader(writer, position, first=first)
    writer.write("mine")
    items = reader.events()
    assert next(items) == "mine"

    reader.end_at(writer.endpoint.writer.framed(5))
    assert list(items) == []
    writer.write("others go on")


def test_what_the_network_lost_is_sent_again() -> None:
    """The writer keeps the last frames, and the reader asks for what it misses."""
    bus = MemoryBus()

    class Lossy(MemoryTransport):
        """Lose every third call of publish."""

        calls = 0

        def publish(self, channel: str, messages: object, deadline: Deadline) -> None:
            type(self).calls += 1
            if not channel.endswith(".up") and self.calls % 3 == 0:
                return
            super().publish(channel, messages, deadline)  # type: ignore[arg-type]

    agent = Side(lambda: Lossy(bus, producer="agent"))
    consumer = Side(lambda: MemoryTransport(bus, producer="consumer"))
    writer, position = agent.writer()
    reader = consumer.reader(writer, position, patience=10.0)
    told = listen(reader)
    pause = threading.Event()

    def write() -> None:
        for number in range(60):
            writer.write(number)
            pause.wait(0.01)
        writer.end()

    done = in_background(write)
    reader_result = in_background(lambda: list(reader.events()))
    done(60)
    assert writer.endpoint.writer is not None
    reader.end_at(writer.endpoint.writer.next_seq)

    assert reader_result(60) == list(range(60))
    assert told.errors == []
    agent.close()
    consumer.close()


class Skipping(Clock):
    """Be the machine's clock, which a test puts forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        """Return the seconds that passed, and those that were skipped."""
        return super().monotonic() + self.ahead


def test_what_was_lost_on_a_quiet_stream_is_sent_again() -> None:
    """Its reader speaks once a minute and knows of nothing; the writer does not wait for that. [R-17] [R-36]"""
    bus, clock = MemoryBus(), Skipping()
    publishes: list[str] = []

    class Lossy(MemoryTransport):
        """Lose what it is told to."""

        loses = False

        def publish(self, channel: str, messages: object, deadline: Deadline) -> None:
            publishes.append(channel)
            if not self.loses:
                super().publish(channel, messages, deadline)  # type: ignore[arg-type]

    lossy = Lossy(bus, producer="agent")
    agent = Side(lambda: lossy, clock=clock)
    consumer = Side(lambda: Lossy(bus, producer="consumer"), clock=clock)
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    items = reader.events()
    writer.write("one")
    assert next(items) == "one"
    for _ in range(8):  # each leap is as long as the pause at its longest
        before = len(publishes)
        clock.ahead += ACK_QUIET
        consumer.exchange.kick(reader.endpoint)
        wait_until(lambda before=before: len(publishes) > before, 30, "a word of the reader")  # type: ignore[misc]

    lossy.loses = True
    before = len(publishes)
    writer.write("two")
    wait_until(lambda: len(publishes) > before, 30, "the frame that is lost")
    lossy.loses = False
    clock.ahead += PROBE_AFTER
    agent.exchange.kick(writer.endpoint)
    assert in_background(lambda: next(items))(30) == "two"
    agent.close()
    consumer.close()


def test_an_outage_loses_nothing_and_is_told() -> None:
    """Each side hears of it and of its end; the stream goes on where it was [R-30]."""
    with networks() as make, transports() as transport:
        net = make()
        agent, consumer = (Side(lambda: transport(net.port, ENTROPY.name(8))) for _ in range(2))
        writer, position = agent.writer()
        reader = consumer.reader(writer, position)
        told = listen(reader)
        items = reader.events()
        writer.write("before")
        assert next(items) == "before"
        net.loop.run(net.network.refuse())
        wait_until(lambda: "network_issues" in told.categories())
        for number in range(10):
            writer.write(number)
        net.loop.run(net.network.accept())

        assert [next(items) for _ in range(10)] == list(range(10))
        wait_until(lambda: "reconnected" in told.categories())
        writer.end()
        assert list(items) == []
        assert "gap" not in told.categories()
        agent.close()
        consumer.close()


def test_a_right_that_is_taken_away_ends_the_stream() -> None:
    """Reader and writer are told `access_denied`, which is fatal, and iterators stop [A-13]."""
    import time

    from blocks_worker.hub.network.access import mint

    secret = b"secret-of-the-network"

    def token(name: str, *channels: str) -> str:
        names = [*channels, f"w.{name}"]
        return mint(secret, user_id=name, read=names, write=names, ttl_minutes=5, now_s=int(time.time()))

    with networks() as make, transports() as transport:
        net = make(secret=secret)
        good = {name: token(name, "stream.speaker.t-1", "stream.speaker.t-1.up") for name in ("a", "c")}
        tokens = {name: Tokens(good[name]) for name in ("a", "c")}
        agent, consumer = (
            Side(lambda name=name: transport(net.port, name, grants=tokens[name]))  # type: ignore[misc]
            for name in ("a", "c")
        )
        writer, position = agent.writer()
        reader = consumer.reader(writer, position)
        told, written = listen(reader), listen(writer)
        items = reader.events()
        writer.write("one")
        assert next(items) == "one"
        for name in ("a", "c"):
            tokens[name].fresh = token(name, "elsewhere")
            tokens[name].refresh(None)
        net.loop.call(net.network.cut)

        assert in_background(lambda: list(items))(60) == []
        assert [error.fatal for error in told.errors if error.category == "access_denied"] == [True]
        assert told.ended.wait(30)

        def write_on() -> None:
            for _ in range(600):
                writer.write("two")
                threading.Event().wait(0.05)

        with pytest.raises((StreamWriteError, RuntimeError)):
            write_on()
        wait_until(lambda: "access_denied" in written.categories(), 30, "what the writer was told")
        agent.close()
        consumer.close()


def test_what_cannot_travel_ends_the_stream() -> None:
    """A frame that is too large for the network is told as `bad_request`, and the writer with it."""
    from blocks_worker.streams.options import WriterOptions

    bus = MemoryBus()
    agent = Side(lambda: MemoryTransport(bus, producer="agent"))
    writer, _ = agent.writer(form="bytes", options=WriterOptions(frame_bytes=60_000))
    told = listen(writer)
    writer.write("x" * 50_000)

    assert told.ended.wait(30)
    assert told.categories() == ["bad_request"]
    with pytest.raises(RuntimeError):
        writer.write("y")
    agent.close()


def test_closing_ends_streams_and_threads(side: Callable[[], Side]) -> None:
    """Iterators stop, nothing is opened any more, and the threads are gone [R-28]."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    waits = in_background(lambda: list(reader.events()))
    consumer.close()

    assert waits(30) == []
    with pytest.raises(RuntimeError, match="on its way out"):
        consumer.reader(writer, position)
    agent.close()
    assert not agent.exchange._reader.is_alive()
    assert not agent.exchange._sender.is_alive()


def test_one_that_was_forgotten_closes_its_connection(side: Callable[[], Side]) -> None:
    """`stop` does not wait, and nobody has to come back for the rest [R-33]."""
    agent = side()
    agent.writer()
    agent.exchange.stop()

    wait_until(lambda: not (agent.exchange._reader.is_alive() or agent.exchange._sender.is_alive()))


def test_a_stream_may_go_on_for_another_task(side: Callable[[], Side]) -> None:
    """The grant of a shared one names a task that runs."""
    agent = side()
    writer, _ = agent.writer()
    agent.exchange.rename(writer.endpoint, "u")

    assert agent.grants.held == [("u", "t-1")]
    assert writer.endpoint.identity.task_id == "u"
