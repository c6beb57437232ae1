from typing import Any

import pytest

from blocks_worker.protocol.schemas import foreign_schema


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"properties": {"a": {"type": "integer"}}}, {"a": "x"}, "a: must be integer, not string"),
        ({"required": ["a"]}, {}, "a: is missing"),
        ({"properties": {"a": {"items": {"minimum": 2}}}}, {"a": [3, 1]}, "a[1]: must be at least 2"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, "b: unknown key; known are a"),
        ({"enum": [1, "two"]}, 3, "must be one of 1, two"),
        ({"const": 1}, 2, "must be 1"),
        ({"type": ["null", "string"]}, True, "must be null, string, not boolean"),
        ({"maxItems": 1}, [1, 2], "may have at most 1 entries"),
        ({"minLength": 1}, "", "must not be empty"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, 1, "has none of the forms that are allowed"),
        ({"additionalProperties": {"type": "null"}}, {"a": 1}, "a: must be null, not integer"),
    ],
)
def test_what_does_not_fit_is_told_by_its_place(schema: dict[str, Any], value: Any, told: str) -> None:
    """[R-59] Each difference is one short sentence with its path."""
    assert [str(finding) for finding in foreign_schema(schema).find(value)] == [told]


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a+)+$"},
        {"patternProperties": {"^(a+)+$": {"type": "null"}}},
        {"$ref": "https://example.org/elsewhere.json"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"format": "regex"},
        {"$dynamicRef": "#x"},
        {"multipleOf": 0},
        {"uniqueItems": True},
    ],
)
def test_what_could_hang_or_reach_outside_is_not_acted_on(schema: dict[str, Any]) -> None:
    """[R-59] A regular expression, a reference and their like say nothing here."""
    compiled = foreign_schema(schema)

    assert [found for value in ("a" * 40 + "!", {"a" * 40 + "!": 1}, 10**400) for found in compiled.find(value)] == []


def test_no_end_of_differences_is_told_in_part() -> None:
    """The findings of one value are bounded, whatever its sender writes."""
    assert len(foreign_schema({"items": {"type": "null"}}).find([1] * 100_000)) == 100
