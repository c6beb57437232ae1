"""The agent card: read from a file, checked against our JSON Schema, findings told by key path."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import CardError, CardFileError, InvalidMessageError
from blocks_worker.protocol.codec import inspect
from blocks_worker.protocol.declared import Card, DeclaredInput, DeclaredOutput, DeclaredStream
from blocks_worker.protocol.schemas import Schema, kind_of, own_schema, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.protocol.schemas import Finding

__all__ = [
    "Card",
    "CardFinding",
    "CardFindings",
    "DeclaredInput",
    "DeclaredOutput",
    "DeclaredStream",
    "check_card",
    "load_card",
]

#: Largest card as JSON, in bytes.
MAX_CARD = 64 * 1024
#: Deepest nesting of lists and objects in a card.
MAX_CARD_DEPTH = 32
#: Most keys and entries of a card, all levels together.
MAX_CARD_VALUES = 4096
_SCHEMA = "agent-card.schema.json"
#: Keys without which the thing that they belong to cannot be used; every other missing key only describes.
_NEEDED = frozenset({"id", "contentType", "direction", "format"})
#: Blocks of which nothing is acted on, and the keys of `identity` of which something is.
_CARRIED = frozenset({"security", "services", "extensions", "$schema"})
_USED_IDENTITY = frozenset({"agentName", "description"})
#: What to do about a finding, by the rule of the schema; with all others the text itself says what has to be there.
_CURES = {
    "required": "add it",
    "additionalProperties": "mend its name, or take it out: nothing reads it",
    "not": "take it out",
}
_USUAL_CURE = "change it"
#: What a card made from options holds, at most.
_MADE_IDENTITY = frozenset({"agentName", "description"})
_MADE_TAG = frozenset({"id", "name"})


@dataclass(frozen=True)
class CardFinding:
    """One thing that is wrong with a card.

    Attributes:
        where: the path of its key; empty: the card itself.
        text: what is wrong and by which rule.
        cure: what to do.
        is_error: it stops a start, where another one is told.
    """

    where: str
    text: str
    cure: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


@dataclass(frozen=True)
class CardFindings:
    """What is wrong with a card: errors stop a start, warnings are told."""

    all: list[CardFinding] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """The errors as sentences."""
        return [str(finding) for finding in self.all if finding.is_error]

    @property
    def warnings(self) -> list[str]:
        """The warnings as sentences."""
        return [str(finding) for finding in self.all if not finding.is_error]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.all


def load_card(path: Path) -> dict[str, Any]:
    """Return the card of a file; only its keys that we use are checked.

    Raises:
        ConfigurationError: it is not there, is not JSON (with the line), or a key is wrong (with its path).
    """
    card = _read(path)
    findings = check_card(card)
    if findings.errors:
        raise CardError(str(path), findings.all)
    return card  # type: ignore[no-any-return]  # an object by the check


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"{path} line {error.lineno} column {error.colno}"
        raise CardFileError(f"{where}: {error.msg}; mend it there, a card is JSON") from error
    except FileNotFoundError as error:
        raise CardFileError(f"{path} is not there; name another card or make it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CardFileError(f"{path} cannot be read: {error}") from error


def check_card(card: object) -> CardFindings:
    """Return what is wrong with a card, each finding with the path of its key.

    Wrong types and values of keys that we use are errors, and so are keys that other keys rule out; unknown keys
    and missing descriptions are warnings.
    """
    if not isinstance(card, dict):
        return CardFindings([CardFinding("", f"the card must be an object, not {kind_of(card)}", _USUAL_CURE)])
    bound = _bound(card)
    if bound is not None:
        return CardFindings([bound])
    found = [*map(_weighed, _schema().find(card)), *_twice(card)]
    return CardFindings(sorted(found, key=lambda finding: not finding.is_error))


def card_errors(card: dict[str, Any]) -> list[str]:
    """Return the errors of a card; one that was made from options is seen to be right without the schema."""
    if not _is_made(card):
        return check_card(card).errors
    bound = _bound(card)
    return [] if bound is None else [str(bound)]


def _bound(card: dict[str, Any]) -> CardFinding | None:
    """Return what makes a card too much to be looked at."""
    try:
        text = json.dumps(card, ensure_ascii=False, allow_nan=False)
        inspect(text.encode(), limit=MAX_CARD, depth=MAX_CARD_DEPTH)
    except (InvalidMessageError, TypeError, ValueError, RecursionError) as error:
        return CardFinding("", f"the card cannot travel: {error}", "make it smaller and plain JSON")
    if _values(card) > MAX_CARD_VALUES:
        text = f"the card has more than {MAX_CARD_VALUES} keys and entries"
        return CardFinding("", text, "leave out what only a handler needs")
    return None


def _values(card: dict[str, Any]) -> int:
    """Count the keys and entries of a card that is known to end."""
    count = 0
    open_ones: list[Any] = [card]
    while open_ones:
        one = open_ones.pop()
        count += len(one)
        open_ones.extend(
            each for each in (one.values() if isinstance(one, dict) else one) if isinstance(each, (dict, list))
        )
    return count


@cache
def _schema() -> Schema:
    return own_schema(_read_schema())


@cache
def free_schema() -> Schema:
    """Return the schema of the schemas that users write: with it a keyword of a wrong type is found beforehand."""
    return own_schema({"$ref": "#/$defs/freeSchema", "$defs": _read_schema()["$defs"]})


def _read_schema() -> dict[str, Any]:
    from importlib import resources

    text = resources.files("blocks_worker.protocol").joinpath(_SCHEMA).read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


def _weighed(found: Finding) -> CardFinding:
    text = f"{found.text}: {found.reason}" if found.rule == "not" and found.reason else found.text
    if found.rule == "required":
        is_error = found.path[-1] in _NEEDED and _is_used(found.path[:-1])
    else:
        is_error = found.rule != "additionalProperties" and _is_used(found.path)
    return CardFinding(spoken(found.path), text, _CURES.get(found.rule, _USUAL_CURE), is_error)


def _is_used(path: tuple[str | int, ...]) -> bool:
    """Tell whether we act on what stands at this path."""
    if not path:
        return True
    if path[0] == "identity":
        return len(path) == 1 or path[1] in _USED_IDENTITY
    return path[0] not in _CARRIED


def _twice(card: dict[str, Any]) -> Iterator[CardFinding]:
    """Yield the inputs and outputs whose id another one has: which of the two is meant nobody could tell."""
    io = card.get("io")
    for block in ("inputs", "outputs"):
        entries = io.get(block) if isinstance(io, dict) else None
        seen: set[str] = set()
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            name = entry.get("id") if isinstance(entry, dict) else None
            if isinstance(name, str) and name in seen:
                yield CardFinding(
                    spoken(("io", block, index, "id")), "names something twice", "give it an id of its own"
                )
            if isinstance(name, str):
                seen.add(name)


def _is_made(card: dict[str, Any]) -> bool:
    """Tell whether a card holds no more than what a start without a card makes, and holds it rightly."""
    identity, tags = card.get("identity"), card.get("tags", [])
    if not card.keys() <= {"identity", "tags"} or not isinstance(identity, dict) or not isinstance(tags, list):
        return False
    return _are_texts(identity, _MADE_IDENTITY) and all(
        isinstance(tag, dict) and tag.get("id") and _are_texts(tag, _MADE_TAG) for tag in tags
    )


def _are_texts(found: dict[str, Any], known: frozenset[str]) -> bool:
    return found.keys() <= known and all(isinstance(value, str) for value in found.values())
