"""The agent card: read from a file, checked against our JSON Schema, findings told by key path."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_SCHEMA = "agent-card.schema.json"
#: Keys without which the thing that they belong to cannot be used; every other missing key only describes.
_NEEDED = frozenset({"id", "contentType", "direction", "format"})
#: Blocks of which nothing is acted on, and the keys of `identity` of which something is.
_CARRIED = frozenset({"security", "services", "extensions", "$schema"})
_USED_IDENTITY = frozenset({"agentName", "description"})
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
    "const": "must be {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minLength": "must not be empty",
    "minItems": "must not be empty",
    "maxLength": "may have at most {} characters",
    "maxItems": "may have at most {} entries",
    "uniqueItems": "names something twice",
}


@dataclass(frozen=True)
class CardFindings:
    """What is wrong with a card: errors stop a start, warnings are told."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.errors or self.warnings)


def load_card(path: Path) -> dict[str, Any]:
    """Return the card of a file; only its keys that we use are checked.

    Raises:
        ConfigurationError: it is not there, is not JSON (with the line), or a key is wrong (with its path).
    """
    card = _read(path)
    findings = check_card(card)
    if findings.errors:
        raise ConfigurationError(f"{path}: {'; '.join(findings.errors)}")
    return card  # type: ignore[no-any-return]  # an object by the check


def check_card(card: object) -> CardFindings:
    """Return what is wrong with a card, each finding with the path of its key.

    Wrong types and values of keys that we use are errors; unknown keys and missing descriptions are warnings.
    """
    findings = CardFindings()
    if not isinstance(card, dict):
        findings.errors.append(f"the card must be an object, not {_kind(card)}")
        return findings
    for error in sorted(_validator().iter_errors(card), key=lambda found: [str(step) for step in found.absolute_path]):
        for path, text, is_error in _findings(error):
            told = findings.errors if is_error else findings.warnings
            line = f"{_spoken(path)}: {text}" if path else text
            if line not in told:
                told.append(line)
    return findings


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path} line {error.lineno} column {error.colno}: {error.msg}") from error
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} is not there; name another card or make it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = resources.files("blocks_worker.protocol").joinpath(_SCHEMA).read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _findings(error: ValidationError) -> Iterator[tuple[list[str | int], str, bool]]:
    """Yield path, text and weight of each finding that one error of the schema means."""
    path = list(error.absolute_path)
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "required":
        for key in wanted:
            if key not in instance:
                yield [*path, key], "is missing", key in _NEEDED and _is_used(path)
    elif error.validator == "additionalProperties":
        schema: Any = error.schema
        for key in instance:
            if key not in schema["properties"]:
                yield [*path, key], f"unknown key; known are {_names(schema['properties'])}", False
    elif error.validator == "not":  # a key that other keys rule out
        yield path, "does not belong here", False
    else:
        yield path, _text(str(error.validator), wanted, instance), _is_used(path)


def _text(rule: str, wanted: Any, instance: Any) -> str:
    """Return one short sentence; the value itself may be long and is not repeated."""
    if rule == "type":
        return f"must be {_names([wanted] if isinstance(wanted, str) else wanted)}, not {_kind(instance)}"
    if rule == "enum":
        return f"must be one of {_names(wanted)}"
    if rule == "pattern":
        text = str(instance)[:80]
        better = text.replace("-", "_")
        hint = f"; write {better!r}" if better != text and re.search(wanted, better) else ""
        return f"{text!r} does not match {wanted}{hint}"
    return _SENTENCES[rule].format(wanted)


def _is_used(path: list[str | int]) -> bool:
    """Tell whether we act on what stands at this path."""
    if not path:
        return True
    if path[0] == "identity":
        return len(path) == 1 or path[1] in _USED_IDENTITY
    return path[0] not in _CARRIED


def _spoken(path: Iterable[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in path)
    return text.removeprefix(".")


def _names(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _kind(value: object) -> str:
    return _JSON_NAMES.get(type(value), type(value).__name__)
