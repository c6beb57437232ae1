import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError
from blocks_worker.transports.envelope import (
    DEPTH,
    ENVELOPE_BYTES,
    ENVELOPE_MESSAGES,
    check,
    encoded_size,
    open_envelope,
    pack,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
#: Up to 250 messages; many are alike, for drawing each by itself would take most of the time.
MESSAGES = st.lists(st.tuples(st.dictionaries(TEXT, JSON, max_size=3), st.integers(1, 50)), min_size=1, max_size=5).map(
    lambda repeated: [message for message, times in repeated for _ in range(times)]
)


def nested(depth: int) -> dict[str, Any]:
    """Return a message of this depth."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


@given(MESSAGES, st.integers(1, 2**50))
def test_what_is_packed_comes_out_the_same(messages: list[dict[str, Any]], first: int) -> None:
    """Opening all envelopes in turn gives every message once, under contiguous numbers, within the limits."""
    packed = pack(messages, "producer", first)

    opened = [open_envelope(json.loads(json.dumps(envelope.payload))) for envelope in packed]
    numbered = [(each.first + i, body) for each in opened for i, body in enumerate(each.bodies)]
    assert numbered == list(enumerate(messages, first))
    assert all(envelope.count <= ENVELOPE_MESSAGES for envelope in packed)
    assert all(len(json.dumps(envelope.payload)) <= ENVELOPE_BYTES for envelope in packed)


@given(st.lists(st.integers(0, 23_000), min_size=1, max_size=40))
def test_big_messages_share_an_envelope_only_while_they_fit(sizes: list[int]) -> None:
    """No envelope exceeds its bytes, whatever the mixture of sizes."""
    packed = pack([{"x": "y" * size} for size in sizes], "p", 1)

    assert max(len(json.dumps(envelope.payload)) for envelope in packed) <= ENVELOPE_BYTES
    assert sum(envelope.count for envelope in packed) == len(sizes)


def test_the_size_is_that_of_the_escaped_text() -> None:
    """Five thousand letters that travel as six characters each are too large, though short as text. [A16]"""
    with pytest.raises(MessageTooLargeError) as caught:
        pack([{"x": "ä" * 5000}], "p", 1)

    assert caught.value.size > 30_000 > caught.value.limit


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"x": math.nan}, "number"),
        ({"x": -math.inf}, "number"),
        ({"x": 10**5000}, "number"),
        ({"x": "\ud800"}, "text"),
        ({"\udfff": 1}, "text"),
        ({1: "x"}, "key"),
        ({"x": {None: 1}}, "key"),
        ({"x": b"bytes"}, "type"),
        ({"x": (1, 2)}, "type"),
        (nested(DEPTH + 1), "depth"),
        (["x"], "not_an_object"),
    ],
)
def test_what_json_can_not_say_is_refused(message: Any, reason: str) -> None:
    """A message that the network's client would mangle never reaches it."""
    with pytest.raises(InvalidMessageError) as caught:
        encoded_size(message)

    assert caught.value.reason == reason


def test_a_message_may_nest_to_the_limit() -> None:
    """The deepest message allowed passes."""
    assert check(nested(DEPTH)) > 0


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("text", "not_an_envelope"),
        ({}, "version"),
        ({"v": 2, "from": "p", "n": 1, "b": [{}]}, "version"),
        ({"v": True, "from": "p", "n": 1, "b": [{}]}, "version"),
        ({"v": 1, "from": "", "n": 1, "b": [{}]}, "producer"),
        ({"v": 1, "from": 7, "n": 1, "b": [{}]}, "producer"),
        ({"v": 1, "from": "p", "n": 0, "b": [{}]}, "number"),
        ({"v": 1, "from": "p", "n": True, "b": [{}]}, "number"),
        ({"v": 1, "from": "p", "n": 1.5, "b": [{}]}, "number"),
        ({"v": 1, "from": "p", "n": 1, "b": []}, "bodies"),
        ({"v": 1, "from": "p", "n": 1, "b": ["text"]}, "bodies"),
        ({"v": 1, "from": "p", "n": 1, "b": [{}] * 101}, "bodies"),
        ({"v": 1, "from": "p", "n": 1, "b": [{"x": math.nan}]}, "number"),
        ({"v": 1, "from": "p", "n": 1, "b": [nested(70)]}, "depth"),
    ],
)
def test_what_is_no_envelope_is_refused_with_a_word(payload: Any, reason: str) -> None:
    """Whatever a hostile writer sends is refused for a reason that can be counted."""
    with pytest.raises(InvalidMessageError) as caught:
        open_envelope(payload)

    assert caught.value.reason == reason
