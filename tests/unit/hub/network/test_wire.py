"""Addresses taken apart and replies put together."""

import pytest

from blocks_worker.hub.network.wire import Refused, Reply, names, query_of, rendered, whole


def test_names_are_split_before_they_are_decoded() -> None:
    """An encoded comma stays in its name; a lone comma is no name; a name counts once. [2.14]"""
    assert names("a,b%2Cc,a,") == ["a", "b,c"]
    assert names(",") == []
    assert names("%C3%BC%2F") == ["ü/"]


def test_names_that_are_no_text_are_refused() -> None:
    """Bytes that are not UTF-8 are refused, a lone surrogate among them."""
    for segment in ("%FF", "%ED%A0%80"):
        with pytest.raises(Refused):
            names(segment)


def test_query() -> None:
    """Empty values are kept, a plus is a plus, and values are decoded once. [2.14]"""
    assert query_of("ee=&a=1+2&b=x%3Dy%26z&c") == {"ee": "", "a": "1+2", "b": "x=y&z", "c": ""}


def test_whole_numbers() -> None:
    """Missing or empty is the default; signs, other digits and very long ones are no numbers."""
    assert (whole(None, 3), whole("", 3), whole("017")) == (3, 3, 17)
    for text in ("-1", "+1", "1.0", "٣", "1" * 21, " 1"):
        with pytest.raises(ValueError, match=r".*"):
            whole(text)


def test_rendered() -> None:
    """A reply has a length unless there can be no body, and says when the connection ends."""
    assert b"Content-Length: 2\r\n" in rendered(Reply(200, b"{}"), keep_alive=True)
    assert b"Content-Length" not in rendered(Reply(204, b""), keep_alive=True)
    assert b"Connection: close\r\n\r\nx" in rendered(Reply(418, b"x"), keep_alive=False)
