"""What a stream says of its trouble."""

from __future__ import annotations

import dataclasses

import pytest

from blocks_worker.streams.trouble import FATAL, StreamError


def test_an_error_is_a_value_that_stays() -> None:
    """It has category, text, channel, time and whether the stream ended by it [A-13]."""
    error = StreamError("access_denied", "revoked", "stream.a.s", 12.5, fatal=True)

    assert dataclasses.asdict(error) == {
        "category": "access_denied",
        "error": "revoked",
        "channel": "stream.a.s",
        "timestamp": 12.5,
        "fatal": True,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        error.fatal = False  # type: ignore[misc]


def test_two_categories_are_fatal() -> None:
    """Nothing mends a right that was taken away, or a request that is wrong."""
    assert {"access_denied", "bad_request"} == FATAL
