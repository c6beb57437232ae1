"""JSON Schemas at work: the one door to `jsonschema`, which is imported when the first schema is compiled."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

#: Most findings in one value that are looked at: whoever mends these sees the next ones.
MAX_FINDINGS = 100
#: Keywords of a foreign schema that are acted on. None of them can take long or reach outside: a regular
#: expression could run for ever, and a reference could name itself or an address.
SAFE_KEYWORDS = frozenset(
    {
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "oneOf",
        "prefixItems",
        "properties",
        "required",
        "type",
    }
)
#: Characters of a list of names in a sentence.
_MAX_NAMES = 300
_JSON_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_SENTENCES = {
    "additionalProperties": "has a key that is not allowed",
    "anyOf": "has none of the forms that are allowed",
    "const": "must be {}",
    "exclusiveMaximum": "must be less than {}",
    "exclusiveMinimum": "must be more than {}",
    "maximum": "must be at most {}",
    "maxItems": "may have at most {} entries",
    "maxLength": "may have at most {} characters",
    "maxProperties": "may have at most {} keys",
    "minimum": "must be at least {}",
    "minItems": "must have at least {} entries",
    "minLength": "must have at least {} characters",
    "minProperties": "must have at least {} keys",
    "not": "does not belong here",
    "oneOf": "must have exactly one of the forms that are allowed",
    "uniqueItems": "names something twice",
}


@dataclass(frozen=True)
class Finding:
    """One place that does not fit the schema.

    Attributes:
        rule: the keyword of the schema.
        text: what is wrong, without the place.
        reason: why the schema wants it so, where it says.
    """

    path: tuple[str | int, ...]
    rule: str
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{spoken(self.path)}: {self.text}" if self.path else self.text


class Schema:
    """A compiled schema; it may be used by many threads."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def find(self, value: Any) -> list[Finding]:
        """Return where the value does not fit, in the order of the places, each finding once."""
        found: dict[Finding, None] = {}
        every = (finding for error in self._validator.iter_errors(value) for finding in _findings(error))
        for finding in islice(every, MAX_FINDINGS):
            found[finding] = None
        return sorted(found, key=lambda finding: [str(step) for step in finding.path])


def own_schema(schema: Mapping[str, Any]) -> Schema:
    """Compile a schema of ours, with every keyword of the draft."""
    from jsonschema import Draft202012Validator

    return Schema(Draft202012Validator(schema))


def foreign_schema(schema: Mapping[str, Any]) -> Schema:
    """Compile a schema that stands in a card; other keywords than the safe ones say nothing.

    It has to have passed the check of the card: a keyword of a wrong type would raise in the middle of a task.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import create

    known = Draft202012Validator.VALIDATORS
    safe = create(
        meta_schema={},
        validators={word: known[word] for word in SAFE_KEYWORDS},
        type_checker=Draft202012Validator.TYPE_CHECKER,
    )
    return Schema(safe(schema))


def spoken(path: Iterable[str | int]) -> str:
    """Return a path as it is written: ``io.inputs[0].id``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{str(step)[:80]}" for step in path)
    return text.removeprefix(".")


def kind_of(value: object) -> str:
    """Return the name that JSON has for the type of a value."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


def _findings(error: ValidationError) -> Iterator[Finding]:
    """Yield the findings that one error of the schema means."""
    path = tuple(error.absolute_path)
    rule, wanted, instance = str(error.validator), error.validator_value, error.instance
    schema: Any = error.schema
    reason = str(schema.get("description", "")) if isinstance(schema, dict) else ""
    if rule == "required":
        for key in wanted:  # type: ignore[union-attr]  # a list, as every schema here was checked or is ours
            if key not in instance:  # type: ignore[operator]  # an object, or the rule would not speak
                yield Finding((*path, str(key)), rule, "is missing", reason)
    elif rule == "additionalProperties" and "properties" in schema:
        for key in instance:  # type: ignore[union-attr]  # an object, as above
            if key not in schema["properties"]:
                yield Finding((*path, key), rule, f"unknown key; {_near(key, schema['properties'])}", reason)
    else:
        yield Finding(path, rule, _text(rule, wanted, instance, reason), reason)


def _near(key: object, known: Iterable[str]) -> str:
    """Return the known key that was meant, or all of them."""
    near = difflib.get_close_matches(str(key)[:80], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {_names(known)}"


def _text(rule: str, wanted: Any, instance: Any, reason: str) -> str:
    """Return one short sentence; the value itself may be long and is not repeated."""
    if rule == "type":
        return f"must be {_names([wanted] if isinstance(wanted, str) else wanted)}, not {kind_of(instance)}"
    if rule == "enum":
        return f"must be one of {_names(wanted)}"
    if rule == "pattern":
        text = str(instance)[:80]
        better = text.replace("-", "_")
        hint = f"; write {better!r}" if better != text and re.search(wanted, better) else ""
        # Where the schema says in words what it wants, its expression is for machines only.
        return f"{text!r} is not {reason}{hint}" if reason else f"{text!r} does not match {wanted}{hint}"
    if rule in {"minLength", "minItems", "minProperties"} and wanted == 1:
        return "must not be empty"
    return _SENTENCES.get(rule, "does not fit").format(_names([wanted]))


def _names(values: Iterable[object]) -> str:
    names = ", ".join(str(value) for value in values)
    return names if len(names) <= _MAX_NAMES else f"{names[:_MAX_NAMES]}…"
