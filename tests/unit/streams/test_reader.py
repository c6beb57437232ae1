"""The reading half: bounded, shared by iterators, a file."""

from __future__ import annotations

import base64
import threading

import pytest
from support_streams import in_background

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.streams import Frame, Multipart
from blocks_worker.streams.reader import (
    BUFFER_BYTES,
    MAX_EVENT,
    OVERFLOW_BYTES,
    InboundMessage,
    Joiner,
    StreamFile,
    StreamReader,
    opened,
    size_of,
)


def message(*items: bytes, seq: int = 0) -> InboundMessage:
    """Return a message with these chunks."""
    return InboundMessage(list(items), seq, 0, "bytes", "base64")


def slice_of(data: bytes, part: int, total: int, name: str = "n") -> Frame:
    """Return one slice of a large event."""
    return Frame(
        type="stream_events",
        stream_id="s",
        sender="w",
        seq=part,
        multipart=Multipart(id=name, part=part, total=total),
        data=base64.b64encode(data).decode(),
    )


def test_every_iterator_ends_with_the_stream() -> None:
    """Several iterators share the items, and all of them end [R-29]."""
    reader = StreamReader("bytes")
    results = [in_background(lambda: list(reader.items())) for _ in range(3)]
    for number in range(50):
        reader.put(message(b"%d" % number), 1)
    reader.end()

    taken = [item for result in results for item in result(10)]
    assert sorted(taken, key=int) == [b"%d" % number for number in range(50)]


def test_a_message_that_was_begun_is_given_in_what_is_left_of_it() -> None:
    """Items and whole messages may be taken in turn."""
    reader = StreamReader("bytes")
    reader.put(message(b"a", b"b", b"c", seq=7), 3)

    assert next(reader.items()) == b"a"
    left = next(reader.messages())
    assert (left.data, left.seq) == ([b"b", b"c"], 7)


def test_a_full_reader_says_so_and_drops_the_oldest_at_last() -> None:
    """Beyond one bound the writer is to be slowed, beyond the other the oldest go and are counted [R-41]."""
    reader = StreamReader("bytes")
    size = 1024 * 1024
    count = OVERFLOW_BYTES // size
    dropped = [reader.put(message(b"%d" % number), size) for number in range(count)]

    assert reader.is_full
    assert sum(dropped) >= size
    assert next(reader.items()) == b"1"
    while reader.is_full:
        next(reader.items())
    assert size < BUFFER_BYTES


def test_what_comes_after_the_end_is_not_taken() -> None:
    """An ended stream grows no more."""
    reader = StreamReader("bytes")
    reader.end()

    assert reader.put(message(b"late"), 4) == 0
    assert list(reader.items()) == []


def test_slices_are_put_together() -> None:
    """The event is there with its last slice."""
    joiner = Joiner()

    assert opened(slice_of(b'{"a":', 1, 2), joiner) is None
    whole = opened(slice_of(b"1}", 2, 2), joiner)
    assert whole is not None
    assert whole.data == [{"a": 1}]


@pytest.mark.parametrize(
    "frames",
    [
        [slice_of(b"x", 2, 2)],
        [slice_of(b"1", 1, 2), slice_of(b"2", 2, 2, "other")],
        [slice_of(b"{", 1, 2), slice_of(b"{", 2, 2)],
        [slice_of(b"1", 1, 3), slice_of(b"2", 3, 3)],
    ],
    ids=["no beginning", "another event", "no JSON", "one left out"],
)
def test_slices_that_do_not_fit_are_told(frames: list[Frame]) -> None:
    """An event that cannot be put together is refused, and the next one can be."""
    joiner = Joiner()
    with pytest.raises(InvalidMessageError):
        [opened(each, joiner) for each in frames]

    opened(slice_of(b'"', 1, 2), joiner)
    assert opened(slice_of(b'"', 2, 2), joiner) is not None


def test_an_event_has_a_bound() -> None:
    """A writer cannot fill the reader's memory with one event that never ends [R-41]."""
    joiner, piece = Joiner(), b"x" * (8 * 1024 * 1024)
    with pytest.raises(InvalidMessageError, match=str(MAX_EVENT)):
        [opened(slice_of(piece, part, 100), joiner) for part in range(1, 20)]


def test_a_file_gives_lines_as_they_arrive() -> None:
    """A line is there as soon as its end came, while the stream goes on [R-42]."""
    reader = StreamReader("bytes")
    file = StreamFile(reader.items(), lambda: reader.has_waiting)
    reader.put(message(b"one\ntw", b"o\nthr"), 9)

    assert file.readline() == b"one\n"
    assert file.readline() == b"two\n"
    rest = in_background(file.read)
    reader.put(message(b"ee"), 2)
    reader.end()
    assert rest(10) == b"three"


def test_a_file_is_read_in_any_portion() -> None:
    """`read(n)` gives what was asked for over the edges of chunks, and nothing at the end."""
    reader = StreamReader("bytes")
    for chunk in (b"abc", b"", b"defgh"):
        reader.put(message(chunk), 3)
    reader.end()
    file = StreamFile(reader.items(), lambda: reader.has_waiting)

    assert [file.read(2), file.read(4), file.read(9), file.read(1)] == [b"ab", b"cdef", b"gh", b""]
    assert file.readable()


def test_the_size_of_events_is_about_what_they_take() -> None:
    """What bounds the memory counts texts, keys and lists."""
    held = Frame(type="stream_events", stream_id="s", sender="w", seq=0, events=[{"k": ["x" * 1_000]}, "y" * 500, 1])

    assert 1_500 < size_of(held) < 2_500


def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    """Nobody waits on an ended stream."""
    reader = StreamReader("events")
    begun = threading.Event()

    def read() -> list[InboundMessage]:
        begun.set()
        return list(reader.messages())

    result = in_background(read)
    begun.wait(5)
    reader.end()

    assert reader.is_ended
    assert result(5) == []
