"""The reader of requests, without a socket."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.hub.network.reading import CHUNKS_LIMIT, RequestReader, inflated
from blocks_worker.hub.network.wire import Refused, Request

POST = b"POST /a%2Fb?x=1?2 HTTP/1.1\r\nHost: Here:1\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def all_of(reader: RequestReader) -> list[Request]:
    """Return the requests that are whole."""
    found = []
    while (request := reader.next()) is not None:
        found.append(request)
    return found


def test_one_request() -> None:
    """Path and query stay encoded; the query starts at the first question mark; a host's case does not matter."""
    reader = RequestReader()
    reader.feed(POST)

    assert all_of(reader) == [Request("POST", "/a%2Fb", "x=1?2", "here:1", b"abc", keep_alive=True)]
    assert not reader.has_begun()


@given(st.lists(st.integers(min_value=1, max_value=200), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    """However the bytes are cut, the same requests come out."""
    stream = POST + CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n" + POST
    reader, found, start = RequestReader(), [], 0
    for cut in [*cuts, len(stream)]:
        reader.feed(stream[start : start + cut])
        start += cut
        found += all_of(reader)

    assert [request.body for request in found] == [b"abc", b"hello!", b"abc"]


@given(st.binary(max_size=300))
def test_junk_is_refused_or_waited_for(junk: bytes) -> None:
    """No bytes raise anything but a refusal."""
    reader = RequestReader()
    reader.feed(junk + b"\r\n\r\n")
    status = 200
    try:
        all_of(reader)
    except Refused as refusal:
        status = refusal.reply.status

    assert status in {200, 400, 405, 413}


def test_too_many_chunks_are_refused() -> None:
    """A body in very many pieces is refused, however small."""
    reader = RequestReader()
    reader.feed(CHUNKED + b"1\r\nx\r\n" * (CHUNKS_LIMIT + 1))

    with pytest.raises(Refused) as refused:
        reader.next()

    assert refused.value.reply.status == 413


@pytest.mark.parametrize("rest", [b"0\r\nTrailer: x\r\n\r\n", b"\r\n", b"x" * 300])
def test_bad_chunks_are_refused(rest: bytes) -> None:
    """Trailers, a missing size and a size line without end are refused."""
    reader = RequestReader()
    reader.feed(CHUNKED + rest)

    with pytest.raises(Refused):
        reader.next()


def test_inflating() -> None:
    """Whatever the label, zlib and gzip data are told apart by their own header; cut data is refused. [2.14]"""
    assert inflated(zlib.compress(b"x"), b"gzip") == b"x"
    assert inflated(gzip.compress(b"x"), b"deflate") == b"x"
    assert inflated(b"x", b"identity") == b"x"
    with pytest.raises(Refused):
        inflated(zlib.compress(b"x" * 100)[:-5], b"gzip")
