"""Streams as their users have them, on each network: written, read, ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_streams import in_background, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_streams import Side

Make = "Callable[[], Side]"


def test_what_is_written_is_read(side: Callable[[], Side]) -> None:
    """Each item once, in order; the iterator ends with the stream [R-29]."""
    agent, consumer = side(), side()
    writer, position = agent.writer(form="bytes")
    reader = consumer.reader(writer, position)
    for data in ("text", b"bytes", bytearray(b"array"), memoryview(b"view"), "ü"):
        writer.write(data)
    writer.end()

    assert b"".join(reader.bytes()) == b"textbytesarrayview" + "ü".encode()
    wait_until(lambda: not reader.is_active)
    assert not writer.is_active


def test_a_late_reader_gets_the_first_frames(side: Callable[[], Side]) -> None:
    """Nobody has to sleep before he writes [R-19]."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    events: list[Any] = [{"n": number} for number in range(500)]
    for event in events:
        writer.write(event)
    writer.end()
    reader = consumer.reader(writer, position)

    assert list(reader.events()) == events


def test_a_large_event_arrives_whole(side: Callable[[], Side]) -> None:
    """It travels in slices, with others before and behind."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    large = {"x": "ü" * 200_000, "b": b"\x00\xff" * 1_000}
    written = ["before", large, "behind"]
    for event in written:
        writer.write(event)
    writer.end()

    assert list(reader.events()) == written


def test_both_sides_write_and_read(side: Callable[[], Side]) -> None:
    """A stream of both directions is two streams that know nothing of each other's numbers."""
    agent, consumer = side(), side()
    here, position = agent.open(agent=True, writes=True, reads=True)
    there, _ = consumer.open(writes=True, reads=True, only=here.uuid, position=position)
    answers = in_background(lambda: [here.write(f"re: {text}") for text in here.events()])
    for number in range(20):
        there.write(f"q{number}")
    heard = there.events()
    assert [next(heard) for _ in range(20)] == [f"re: q{number}" for number in range(20)]

    there.end()
    assert len(answers(30)) == 20
    here.end()
    assert list(heard) == []
    assert not there.is_active


def test_an_inbound_stream_is_written_by_the_consumer(side: Callable[[], Side]) -> None:
    """The agent's side only reads, and ends with it."""
    agent, consumer = side(), side()
    here, position = agent.open(agent=True, reads=True)
    there, _ = consumer.open(writes=True, position=position)
    there.write("hello")
    with there:
        there.write("world")

    assert list(here.events()) == ["hello", "world"]
    with pytest.raises(RuntimeError, match="only read"):
        here.write("x")
    for use in (there.events, there.as_file, lambda: there.inbound):
        with pytest.raises(RuntimeError, match="only written"):
            use()


def test_frames_come_as_they_are(side: Callable[[], Side]) -> None:
    """`inbound` gives whole messages, with number, time and format."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    writer.write("a")
    writer.end()
    (message,) = reader.inbound

    assert (message.data, message.seq, message.format, message.encoding) == (["a"], 0, "events", "utf8")
    assert abs(message.ts - agent.clock.wall_ms()) < 60_000


def test_the_form_of_reading_has_to_fit(side: Callable[[], Side]) -> None:
    """Chunks of a stream of bytes, events of a stream of events."""
    agent = side()
    events, _ = agent.open("t-1", agent=True, reads=True)
    chunks, _ = agent.open("t-2", agent=True, reads=True, form="bytes")

    with pytest.raises(RuntimeError, match=r"events\(\)"):
        events.bytes()
    with pytest.raises(RuntimeError, match=r"bytes\(\)"):
        chunks.events()


def test_lines_are_read_as_they_arrive(side: Callable[[], Side]) -> None:
    """A file gives a line while the stream goes on [R-42]."""
    agent, consumer = side(), side()
    writer, position = agent.writer(form="bytes")
    file = consumer.reader(writer, position).as_file()
    writer.write("one\ntw")
    assert file.readline() == b"one\n"
    writer.write("o\nthree")
    assert file.readline() == b"two\n"
    writer.end()

    assert list(file) == [b"three"]


def test_pieces_are_read_as_they_arrive(side: Callable[[], Side]) -> None:
    """`read` of so many bytes gives what is there, and without a number all up to the end. [R-42]"""
    agent, consumer = side(), side()
    writer, position = agent.writer(form="bytes")
    file = consumer.reader(writer, position).as_file()
    writer.write("abc")
    assert file.read(2) + file.read(100) == b"abc"
    writer.write(b"d" * 100_000)
    writer.write("e")
    writer.end()

    assert file.read(1) == b"d"
    assert file.read() == b"d" * 99_999 + b"e"
    assert file.read(5) == b""


def test_a_slow_reader_slows_the_writer(side: Callable[[], Side]) -> None:
    """The writer is never more than the reader's buffer and a window ahead, and nothing is dropped [R-41]."""
    agent, consumer = side(), side()
    writer, position = agent.writer(form="bytes")
    reader = consumer.reader(writer, position)
    told = listen(reader)
    assert writer.endpoint.writer is not None
    assert writer.endpoint.writer.wait_for_reader(30)
    size, piece, written = 12 * 1024 * 1024, b"x" * 65_536, [0]

    def write() -> None:
        for _ in range(size // len(piece)):
            writer.write(piece)
            written[0] += len(piece)
        writer.end()

    done = in_background(write)
    # As the frames fall, he is held back a little below three MiB, or above.
    wait_until(lambda: written[0] > 2 * 1024 * 1024)
    quiet = threading.Event()
    quiet.wait(1.0)
    assert written[0] < 7 * 1024 * 1024

    assert sum(map(len, reader.bytes())) == size
    assert done(60) is None
    assert told.errors == []


def test_the_end_is_told_to_all(side: Callable[[], Side]) -> None:
    """Callbacks hear of it once, late ones at once; it leaves its place in the process."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    told = [listen(writer), listen(reader)]
    writer.end()
    writer.end()

    assert all(each.ended.wait(30) for each in told)
    late = listen(reader)
    assert late.ended.wait(30)
    assert reader.ended_event().is_set()
    with pytest.raises(RuntimeError, match="has ended"):
        writer.write("x")


def test_a_closed_reader_stops_after_what_came(side: Callable[[], Side]) -> None:
    """Its iterators end, and the writer is no longer slowed by it."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    writer.write("a")
    items = reader.events()
    assert next(items) == "a"
    reader.close()

    assert list(items) == []
    assert writer.endpoint.writer is not None
    wait_until(lambda: writer.endpoint.writer.readers() == 0)


def test_trouble_is_told_late_too(side: Callable[[], Side]) -> None:
    """Who registers later gets the last error, not that all is well."""
    agent = side()
    writer, _ = agent.writer()
    writer.report("other", "one")
    writer.report("gap", "two")
    writer.report("reconnected", "well")
    told = listen(writer)

    wait_until(lambda: told.errors)
    assert [(error.category, error.error) for error in told.errors] == [("gap", "two")]


def test_a_fatal_error_is_told_first_and_then_the_end(side: Callable[[], Side]) -> None:
    """Callbacks run before the iterators stop [A-13]."""
    agent = side()
    stream, _ = agent.open(agent=True, reads=True, writes=True)
    order: list[str] = []
    stream.on_error(lambda error: order.append(f"{error.category} {error.fatal} {stream.is_active}"))
    stream.on_end(lambda: order.append("end"))
    stream.report("access_denied", "revoked")

    assert list(stream.events()) == []
    wait_until(lambda: len(order) == 2)
    assert order == ["access_denied True True", "end"]
    with pytest.raises(RuntimeError, match="revoked"):
        stream.write("x")


def test_one_user_of_a_shared_stream_may_leave(side: Callable[[], Side]) -> None:
    """For him it has ended, for the others it goes on."""
    agent, consumer = side(), side()
    writer, position = agent.writer()
    reader = consumer.reader(writer, position)
    other = type(writer)(writer.endpoint, call=agent.exchange.callbacks.call, leave=agent.exchange.leave)
    other.detach()

    assert not other.is_active
    with pytest.raises(RuntimeError, match="for this task"):
        other.write("x")
    writer.write("y")
    writer.end()
    assert list(reader.events()) == ["y"]
