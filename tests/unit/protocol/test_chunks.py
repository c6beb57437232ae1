"""Bytes of streams as frames of a link: what goes in comes out, and whatever is not whole is refused."""

from __future__ import annotations

import json

import pytest

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import (
    MAX_BUNDLE,
    RawFrame,
    Spoken,
    brought,
    bundles,
    framed,
    in_json,
    open_bundle,
    read_brought,
    read_spoken,
    spoken,
)
from blocks_worker.protocol.streams import Multipart, chunk_bytes, read_message


def frame(seq: int, *chunks: bytes, encoding: str = "base64") -> RawFrame:
    """Return a frame of bytes, or of text."""
    return RawFrame(type="stream_data", stream_id="t-1", sender="s", seq=seq, ts=5, encoding=encoding, raw=[*chunks])  # type: ignore[arg-type]


SLICE = RawFrame(
    type="stream_events",
    stream_id="t-1",
    sender="s",
    seq=2,
    ts=5,
    multipart=Multipart(id="e", part=1, total=2),
    raw=[b'{"a"'],
)
ABOUT = ("key", "user", "stream.a.t-1")
FRAMES = [frame(0, b"\xff\x00", b""), frame(1, "ä".encode(), b"b", encoding="utf8"), SLICE]


def test_frames_come_back_as_they_were() -> None:
    """Bytes, text and slices keep their chunks, numbers and names; the hub's frame around them is a header."""
    ((parts, count),) = bundles(FRAMES, "me", 7)
    bundle = b"".join(parts)

    assert (count, open_bundle(bundle)) == (3, ("me", 7, FRAMES))
    assert read_spoken(spoken(3, 4, ABOUT, parts)) == Spoken(3, 4, *ABOUT, memoryview(bundle))
    assert read_brought(brought(1, 2**62, "stream.a.t-1", bundle)) == (1, 2**62, "stream.a.t-1", bundle)


def test_a_bundle_is_bounded() -> None:
    """What fits goes together, in order and numbered on, at most 256 KiB and 100 frames."""
    large = [frame(seq, b"x" * 130_000) for seq in range(5)]
    small = [frame(seq, b"x") for seq in range(250)]
    packed = [[(b"".join(parts), count) for parts, count in bundles(frames, "me", 1)] for frames in (large, small)]

    assert [[count for _, count in each] for each in packed] == [[2, 2, 1], [100, 100, 50]]
    assert [open_bundle(bundle)[1] for bundle, _ in packed[1]] == [1, 101, 201]
    assert all(len(bundle) <= MAX_BUNDLE for each in packed for bundle, _ in each)


def test_those_who_poll_read_the_same() -> None:
    """As JSON it is the envelope that would have been published, with base64 where bytes are."""
    ((parts, _),) = bundles(FRAMES, "me", 7)
    envelope = json.loads(in_json(b"".join(parts)))
    messages = [read_message(body) for body in envelope.pop("b")]

    assert envelope == {"v": 1, "from": "me", "n": 7}
    assert [chunk_bytes(message) for message in messages[:2]] == [each.raw for each in FRAMES[:2]]  # type: ignore[arg-type]
    assert messages[2].data == "eyJhIg=="  # type: ignore[union-attr]


def test_what_is_cut_or_longer_is_refused() -> None:
    """No beginning of a bundle is one, nor one with more behind it; so with the frames of a link."""
    ((parts, _),) = bundles(FRAMES, "me", 7)
    bundle, said = b"".join(parts), spoken(3, 4, ABOUT, parts)
    for data in [*(bundle[:end] for end in range(len(bundle))), bundle + b"x"]:
        with pytest.raises(InvalidMessageError):
            open_bundle(data)
    for end in range(len(said) - len(bundle) + 1):
        with pytest.raises(InvalidMessageError):
            read_spoken(said[:end])


@pytest.mark.parametrize(
    "wrong",
    [
        frame(0),
        frame(0, b"\xff", encoding="utf8"),
        frame(2**53, b"x"),
        RawFrame(type="stream_data", stream_id="", sender="s", seq=0, raw=[b"x"]),
        RawFrame(type="stream_data", stream_id="n" * 200, sender="s", seq=0, raw=[b"x"]),
        RawFrame(
            type="stream_events",
            stream_id="t",
            sender="s",
            seq=0,
            multipart=Multipart(id="e", part=3, total=2),
            raw=[b"x"],
        ),
    ],
    ids=["nothing", "no text", "number", "no name", "long name", "slice"],
)
def test_what_no_frame_may_hold_is_refused(wrong: RawFrame) -> None:
    """The bounds are those of the same frame in JSON."""
    ((parts, _),) = bundles([wrong], "me", 1)
    with pytest.raises(InvalidMessageError):
        open_bundle(b"".join(parts))


def test_a_bundle_has_its_own_frame() -> None:
    """Operations in JSON that follow each other share a frame; the order stays."""
    one, two = (brought(1, position, "c", b"x") for position in (1, 2))
    frames = list(framed([b'["a"]', b'["b"]', one, two, b'["c"]']))

    assert frames == [b'[["a"],["b"]]', one, two, b'[["c"]]']
