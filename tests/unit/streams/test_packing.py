"""From what is written to frames."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import FILLED, RAW, RawFrame, bundles
from blocks_worker.protocol.streams import Frame, read_message
from blocks_worker.streams.packing import BUNDLE, Packer, pieces_of, without_bytes
from blocks_worker.streams.reader import Joiner, opened, with_bytes

LIMIT = 2_000


def frames(*written: Any, form: Any = "bytes", bundle: int = 500) -> list[dict[str, Any]]:
    """Return the frames of what one writer wrote."""
    packer = Packer(stream_id="s", sender="w", bundle=bundle, limit=LIMIT)
    for data in written:
        for piece in pieces_of(data, form, limit=LIMIT, name=lambda: "n"):
            packer.add(piece)
    found = []
    while (frame := packer.take(1)) is not None:
        found.append(frame)
    assert not packer.waiting
    assert not len(packer)
    return found


def raw_frames(*written: Any, form: Any = "bytes", raw: int = 1_000) -> list[RawFrame]:
    """Return the frames that a link carries."""
    packer = Packer(stream_id="s", sender="w", bundle=BUNDLE, limit=LIMIT, raw=raw)
    for data in written:
        for piece in pieces_of(data, form, limit=LIMIT, name=lambda: "n", raw=raw):
            packer.add(piece)
    found = []
    while (frame := packer.take(1)) is not None:
        found.append(frame[RAW])
    return found


def test_bytes_over_a_link_fill_their_frames() -> None:
    """Each frame has as much content as fits, with no byte of base64; a piece of just that size has one of its own."""
    whole = raw_frames(b"x" * 1_000, b"y" * 500, b"z" * 500, b"z" * 400, b"z" * 700)

    assert [[len(chunk) for chunk in each.raw] for each in whole] == [[1_000], [500, 500], [400], [700]]
    assert [each.seq for each in whole] == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "frames"), [(FILLED, 1), (FILLED // 4, 1), (FILLED // 64, 1), (1, 5)])
def test_a_full_frame_fits_a_bundle(size: int, frames: int) -> None:
    """Pieces that fill a frame do, whatever is said of their lengths; of the smallest there are more frames."""
    found = raw_frames(*([b"x" * size] * (FILLED // size)), raw=FILLED)

    assert len(found) == frames
    assert len(list(bundles(found, "p" * 128, 1))) == frames


def test_bytes_that_nobody_can_change_are_not_copied() -> None:
    """What is written travels as it is; what may change while it waits is copied."""
    fixed, changing = b"x" * 1_000, bytearray(b"y" * 1_000)
    one, other = (each.raw[0] for each in raw_frames(fixed, changing))
    changing[:] = b""

    assert one is fixed
    assert other == b"y" * 1_000


def test_text_over_a_link_is_cut_between_characters() -> None:
    """Each chunk is text by itself, and together they are what was written."""
    cut = [chunk for each in raw_frames("aé漢😀" * 400) for chunk in each.raw]

    assert "".join(chunk.decode() for chunk in cut) == "aé漢😀" * 400
    assert max(map(len, cut)) <= 1_000


def test_a_large_event_over_a_link_is_sliced_as_it_is() -> None:
    """Its slices are bytes, and put together they are the event."""
    joiner, event = Joiner(), {"text": "x" * 5_000}
    read = [opened(each, joiner) for each in raw_frames(event, form="events")]

    assert [each for each in read[:-1] if each is not None] == []
    assert read[-1] is not None
    assert read[-1].data == [event]


def read_back(found: list[dict[str, Any]]) -> list[Any]:
    """Return what a reader gets of frames."""
    joiner, items = Joiner(), []
    for frame in found:
        read = read_message(json.loads(json.dumps(frame)))
        assert isinstance(read, Frame)
        message = opened(read, joiner)
        items += message.data if message is not None else []
    return items


@given(st.lists(st.text(max_size=5_000) | st.binary(max_size=5_000), max_size=6))
def test_text_and_bytes_come_back_as_they_were_written(written: list[str | bytes]) -> None:
    """Whatever is written to a stream of bytes comes back in order, and no frame is above the limit [R-18]."""
    found = frames(*written)

    expected = b"".join(each.encode() if isinstance(each, str) else each for each in written)
    assert b"".join(read_back(found)) == expected
    assert [frame["seq"] for frame in found] == list(range(len(found)))
    assert all(len(json.dumps(frame)) <= LIMIT for frame in found)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=50) | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=40,
)


@given(st.lists(_JSON, max_size=8))
def test_events_come_back_as_they_were_written(written: list[Any]) -> None:
    """Any JSON value, with bytes inside too, is one event, however large."""
    found = frames(*written, form="events")

    assert read_back(found) == written
    assert all(len(json.dumps(frame)) <= LIMIT for frame in found)


def test_small_pieces_share_a_frame_up_to_the_bundle() -> None:
    """What gathers goes together, until the frame is as large as told."""
    found = frames(*["x" * 96] * 10, bundle=300)

    assert [len(frame["chunks"]) for frame in found] == [3, 3, 3, 1]


def test_text_and_bytes_never_share_a_frame() -> None:
    """Each frame has one encoding."""
    assert [frame["encoding"] for frame in frames("a", b"b", b"c", "d")] == ["utf8", "base64", "utf8"]


@pytest.mark.parametrize("data", [bytearray(b"ab"), memoryview(b"ab"), b"ab"])
def test_all_kinds_of_bytes_are_taken(data: Any) -> None:
    """Bytes, bytearray and memoryview are the same to a stream [R-18]."""
    assert read_back(frames(data)) == [b"ab"]


def test_a_text_is_one_event() -> None:
    """A bare text is an event like any other [R-5]."""
    assert read_back(frames("hello", form="events")) == ["hello"]


def test_a_large_event_travels_in_consecutive_slices() -> None:
    """Its slices have one name, consecutive numbers, and know how many they are."""
    found = frames({"x": "y" * 5_000}, form="events")

    parts = [frame["multipart"] for frame in found]
    assert [part["part"] for part in parts] == list(range(1, len(found) + 1))
    assert {(part["id"], part["total"]) for part in parts} == {("n", len(found))}
    assert read_back(found) == [{"x": "y" * 5_000}]


@pytest.mark.parametrize(
    ("data", "form", "error"),
    [
        (7, "bytes", TypeError),
        ("\ud800", "bytes", InvalidMessageError),
        ({1, 2}, "events", InvalidMessageError),
        (float("nan"), "events", InvalidMessageError),
        ("\ud800", "events", InvalidMessageError),
    ],
)
def test_what_cannot_travel_is_refused_before_any_of_it_is_taken(data: Any, form: Any, error: type[Exception]) -> None:
    """A stream of bytes takes text and bytes, a stream of events what JSON can carry."""
    with pytest.raises(error):
        list(pieces_of(data, form, limit=LIMIT, name=lambda: "n"))


def test_too_deep_an_event_is_refused() -> None:
    """What a reader would not take is not sent."""
    event: Any = 1
    for _ in range(70):
        event = [event]

    with pytest.raises((InvalidMessageError, ValueError)):
        list(pieces_of(event, "events", limit=LIMIT, name=lambda: "n"))


def test_bytes_inside_events_are_marked() -> None:
    """They stand as base64 under one key, and what only looks like it stays."""
    event = {"b": b"\x00", "t": (1, bytearray(b"a"))}

    marked = without_bytes(event)
    assert marked == {"b": {"$binary": base64.b64encode(b"\x00").decode()}, "t": [1, {"$binary": "YQ=="}]}
    assert with_bytes(marked) == {"b": b"\x00", "t": [1, b"a"]}
    assert with_bytes({"$binary": "not base64!"}) == {"$binary": "not base64!"}


def test_an_event_within_itself_is_refused() -> None:
    """What nests without an end, or deeper than Python calls itself, is an error of the event and no other."""
    deep: list[Any] = []
    deep.append(deep)
    with pytest.raises(InvalidMessageError, match="nests deeper"):
        pieces_of(deep, "events", limit=LIMIT, name=lambda: "n")
