"""Values of a generator as events: which stream takes them, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from blocks_worker.errors import ArtifactError
from blocks_worker.protocol.declared import Card
from blocks_worker.worker.generated import as_event
from blocks_worker.worker.stream_rules import values_stream

OUT = {"direction": "outbound", "format": "events"}


@dataclass
class Point:
    """A value of a user's own."""

    x: int
    y: list[int]


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        ({}, "_default"),
        ({"a": OUT}, "a"),
        ({"a": OUT, "raw": {**OUT, "format": "bytes"}, "in": {**OUT, "direction": "inbound"}}, "a"),
        ({"a": OUT, "b": OUT}, None),
        ({"a": OUT, "_default": OUT}, "_default"),
        ({"a": {**OUT, "affinity": "shared"}}, None),
        ({"a": {**OUT, "direction": "bidirectional"}}, None),
    ],
)
def test_the_stream_of_values_is_the_only_one_that_fits(streams: dict[str, Any], expected: str | None) -> None:
    """One of events that goes out and is the task's own; of several only the default one is meant."""
    declared = Card({"streams": streams}).streams

    assert values_stream(declared, has_stream=True) == expected
    assert values_stream(declared, has_stream=False) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (None, None),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        ({"p": Point(1, []), "t": (1, 2)}, {"p": {"x": 1, "y": []}, "t": [1, 2]}),
        ({"b": b"\x00"}, {"b": {"$binary": "AA=="}}),
    ],
)
def test_a_value_is_carried_as_json_has_it(value: Any, expected: Any) -> None:
    """Dataclasses are objects, bytes inside are marked, as everywhere."""
    assert as_event(value) == expected


def test_what_json_cannot_carry_is_told() -> None:
    """It fails the task, as a result would."""
    with pytest.raises(ArtifactError):
        as_event({1, 2})
