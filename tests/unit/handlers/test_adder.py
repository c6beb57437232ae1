import json
from typing import Any

import pytest

from blocks_worker.context.messages import StartTaskMessage
from blocks_worker.handlers.adder import handler


def ask(*parts: Any) -> dict[str, Any]:
    """Return what the adder answers."""
    artifact = handler(StartTaskMessage(request_parts=list(parts)))["artifacts"][0]
    assert artifact["mimeType"] == "application/json"
    answer: dict[str, Any] = json.loads(artifact["data"])
    return answer


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([{"text": '{"a": 2, "b": 3}'}], 5),
        ([{"text": '{"a": 2.5, "b": -3, "kind": "math_add"}'}], -0.5),
        ([{"partId": "x", "a": 1, "b": 2}], 3),
        ([{"text": "words", "a": 1, "b": 2}], 3),
        ([{"text": "no"}, "bare", {"text": '{"a": 1, "b": 1}'}, {"a": 5, "b": 5}], 2),
        ([{"a": 10**30, "b": 1}], 10**30 + 1),
    ],
)
def test_it_adds(parts: Any, total: Any) -> None:
    """[2.12] The first part with two numbers counts, from its JSON text or from its keys."""
    answer = ask(*parts)

    assert (answer["ok"], answer["sum"], list(answer)) == (True, total, ["ok", "a", "b", "sum"])


@pytest.mark.parametrize(
    "part",
    [
        {"text": '{"a": true, "b": 1}'},
        {"text": '{"a": "1", "b": 1}'},
        {"text": '{"a": NaN, "b": 1}'},
        {"text": '{"a": 1e999, "b": 1}'},
        {"text": '{"a": 1}'},
        {"text": '{"a": 1, "b": 2, "kind": "math_sub"}'},
        {"text": "[1, 2]"},
        {"text": "[" * 100_000},
        {"text": '{"a": 1e308, "b": 1e308}'},
        {"a": 10**400, "b": 0.5},
        "bare",
    ],
)
def test_bad_input_is_answered(part: Any) -> None:
    """[2.12] Bad input is an answer with ok false, the reason and the input."""
    answer = ask(part)

    assert (answer["ok"], list(answer), answer["input"]) == (False, ["ok", "error", "input"], [part])


def test_the_answer_is_indented() -> None:
    """[2.12] The JSON is written with an indent of 2."""
    data = handler(StartTaskMessage(request_parts=[{"a": 1, "b": 2}]))["artifacts"][0]["data"]

    assert data.startswith('{\n  "ok": true')
