import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError
from blocks_worker.protocol.codec import MAX_DEPTH, Wire, convert, decode, encode, inspect, splice

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=20,
)


class Sample(Wire):
    """A message for these tests."""

    task_id: str
    count: int = 0
    note: str | None = None


@given(json_values)
def test_what_json_can_carry_passes(value: Any) -> None:
    """Every JSON value that is not hostile is let through, whoever wrote the bytes."""
    inspect(json.dumps(value).encode())
    inspect(encode(value))


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_with_one_error(data: bytes) -> None:
    """Random bytes are a message or an InvalidMessageError, nothing else. [H1]"""
    try:
        decode(Sample, data)
    except InvalidMessageError as error:
        assert error.reason  # noqa: PT017 - not raising is right as well


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"taskId":"\xff"}', "not_utf8"),
        (json.dumps({"taskId": "a"}).encode("utf-16"), "not_utf8"),
        (b'\xef\xbb\xbf{"taskId":"a"}', "not_json"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b'{"taskId":"a","count":NaN}', "number"),
        (b'{"taskId":"a","count":-Infinity}', "number"),
        (b'{"taskId":"a","count":' + b"9" * 5000 + b"}", "number"),
        (b'{"taskId":"a","taskId":"b"}', "duplicate_key"),
        (b'{"a":{"b":1,"b":2},"taskId":"a"}', "duplicate_key"),
        (b'{"taskId":1}', "shape"),
        (b'{"count":1}', "shape"),
        (b'{"taskId":"a","count":1e400}', "number"),
        (b'{"taskId":"a","other":-1E+0400}', "number"),
        (b'{"taskId":"a","other":[1.5e9999]}', "number"),
        (b'{"taskId":"a","other":' + b"9" * 399 + b".0}", "number"),
        (b"[]", "shape"),
        (b"", "not_json"),
        (b'{"taskId":"a"', "not_json"),
        (b'{"taskId":"a"} x', "not_json"),
    ],
)
def test_hostile_bytes_are_refused_by_reason(data: bytes, reason: str) -> None:
    """Each kind of bad input has its own word, which is counted. [H3] [H4] [H5]"""
    with pytest.raises(InvalidMessageError) as raised:
        decode(Sample, data)

    assert raised.value.reason == reason


def test_brackets_inside_text_are_no_depth() -> None:
    """A text full of brackets is a text."""
    text = "[{" * 1000 + '\\"' + "]"

    assert decode(Sample, json.dumps({"taskId": text}).encode()).task_id == text


def test_digits_inside_text_are_no_number() -> None:
    """A text of many digits is a text."""
    assert decode(Sample, json.dumps({"taskId": "7" * 5000}).encode()).task_id == "7" * 5000


def test_a_large_number_that_a_float_holds_passes() -> None:
    """What is only large is no reason to refuse it, and a text that looks like a number neither."""
    inspect(b'[1e308, 1e-999, 12e300, 0.0e9999, "1e9999", ' + b"9" * 300 + b".0]")


def test_the_deepest_allowed_passes() -> None:
    """The limit itself is allowed."""
    inspect(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_a_body_over_the_limit_tells_both_sizes() -> None:
    """The error carries how much came and how much is allowed."""
    with pytest.raises(MessageTooLargeError) as raised:
        decode(Sample, b"x" * 11, limit=10)

    assert (raised.value.size, raised.value.limit) == (11, 10)


def test_unknown_fields_are_ignored_and_names_are_camel_case() -> None:
    """A newer sender may say more than we know. [B23]"""
    sample = decode(Sample, b'{"taskId":"a","somethingNew":[1]}')

    assert sample == Sample(task_id="a")
    assert encode(sample) == b'{"taskId":"a"}'


@pytest.mark.parametrize("value", [{1, 2, object()}, object(), "\ud800", lambda: None])
def test_what_json_cannot_carry_is_refused_on_the_way_out(value: object) -> None:
    """Encoding trouble is our error, not a library's."""
    with pytest.raises(InvalidMessageError):
        encode({"value": value})


def test_convert_refuses_the_wrong_shape() -> None:
    """Decoded JSON is checked like bytes."""
    with pytest.raises(InvalidMessageError):
        convert(Sample, {"taskId": []})


@given(st.dictionaries(st.sampled_from("abc"), json_values), st.dictionaries(st.sampled_from("xyz"), json_values))
def test_splice_joins_two_objects_without_reading_the_second(head: dict[str, Any], body: dict[str, Any]) -> None:
    """The result holds the fields of both."""
    assert json.loads(splice({"k": 1, **head}, encode(body))) == json.loads(encode({"k": 1, **head, **body}))


def test_raw_bodies_stay_the_bytes_that_came() -> None:
    """What nobody has to read is not read."""

    class Holder(Wire):
        body: msgspec.Raw

    assert bytes(decode(Holder, b'{"body": {"b" :1} }').body) == b'{"b" :1}'


@pytest.mark.parametrize("value", ["\ud800", {"taskId": "x", "count": "\udfff"}, {"taskId\ud800": "x"}])
def test_half_a_character_is_refused_where_it_is_no_text(value: Any) -> None:
    """Parsed JSON may hold one, as a key too, and it is told like any wrong shape. [H1]"""
    with pytest.raises(InvalidMessageError) as raised:
        convert(Sample, value)

    assert raised.value.reason == "shape"


@pytest.mark.parametrize(
    "text", [b'\\"' * 500_000, b'"' + b'\\"' * 500_000 + b"\\\n", b'"' * 1_000_000, b'"a\\' * 300_000]
)
def test_quotes_that_close_nothing_cost_no_time(text: bytes) -> None:
    """The time to see how deep a body is grows with its length and no faster. [H2] [H10]"""
    begun = time.process_time()
    with pytest.raises(InvalidMessageError):
        inspect(b"[" * 65 + text)

    assert time.process_time() - begun < 1


def test_one_key_twice_among_many_is_found_in_a_moment() -> None:
    """The last of eighty thousand keys is there twice: each is looked at once. [H5] [H10]"""
    body = b"{" + b",".join(b'"%d":1' % number for number in range(80_000)) + b',"79999":1}'
    begun = time.process_time()

    with pytest.raises(InvalidMessageError, match="'79999' twice"):
        inspect(body)

    assert time.process_time() - begun < 1
