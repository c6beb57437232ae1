"""What a card declares, as values: task kinds, inputs, outputs, streams, limits that are not acted on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Kinds of tasks of a card that names none.
USUAL_KINDS = frozenset({"request"})


@dataclass(frozen=True, kw_only=True)
class DeclaredInput:
    """A part that a task may or has to bring.

    Attributes:
        accept: content types that a file may have besides `content_type`; ``image/*`` means each image.
        max_size: bytes, or None where the card names no limit.
        schema: of a form; None: any content.
    """

    id: str
    content_type: str
    is_required: bool = False
    accept: tuple[str, ...] = ()
    max_size: int | None = None
    schema: dict[str, Any] | None = None

    @property
    def is_form(self) -> bool:
        """Whether it is JSON."""
        return is_json(self.content_type)

    @property
    def is_text(self) -> bool:
        """Whether it is text of another kind."""
        return self.content_type.startswith("text/")


@dataclass(frozen=True, kw_only=True)
class DeclaredOutput:
    """An artifact that a task may give, or gives always."""

    id: str
    content_type: str
    is_guaranteed: bool = False
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class DeclaredStream:
    """A stream that tasks may open; the direction is as the agent sees it.

    Attributes:
        direction: ``outbound``, ``inbound`` or ``bidirectional``.
        format: ``bytes`` or ``events``.
        affinity: ``dedicated``: one a task; ``shared``: one a process.
        schema: of each event of a one-way stream of events.
        outbound_schema, inbound_schema: of each event that goes out or comes in by a stream of both directions.
    """

    name: str
    direction: str
    format: str
    affinity: str = "dedicated"
    description: str = ""
    content_type: str | None = None
    schema: dict[str, Any] | None = None
    outbound_schema: dict[str, Any] | None = None
    inbound_schema: dict[str, Any] | None = None


class Card:
    """Read a card by what it declares; made once for each card, read by every task.

    The card is taken as checked: what is not of the type it has to have is passed over.
    """

    def __init__(self, card: Mapping[str, Any] | None = None) -> None:
        self.raw: Mapping[str, Any] = card or {}

    @cached_property
    def task_kinds(self) -> frozenset[str]:
        """Kinds of tasks that the agent does: ``request``, ``pipe`` or both."""
        return self.listed_kinds or USUAL_KINDS

    @cached_property
    def listed_kinds(self) -> frozenset[str]:
        """The same as the card lists them; empty: it lists none."""
        kinds = _block(self.raw, "capabilities").get("taskKinds")
        return frozenset(kind for kind in kinds if isinstance(kind, str)) if isinstance(kinds, list) else frozenset()

    @cached_property
    def inputs(self) -> dict[str, DeclaredInput]:
        """The inputs by id; empty: any part may come."""
        return {found["id"]: _input(found) for found in _listed(_block(self.raw, "io").get("inputs"))}

    @cached_property
    def outputs(self) -> dict[str, DeclaredOutput]:
        """The outputs by id; empty: any artifact may be given."""
        return {found["id"]: _output(found) for found in _listed(_block(self.raw, "io").get("outputs"))}

    @cached_property
    def streams(self) -> dict[str, DeclaredStream]:
        """The streams by their names."""
        found = _block(self.raw, "streams")
        return {name: _stream(name, one) for name, one in found.items() if isinstance(one, dict)}

    @property
    def declares_encryption(self) -> bool:
        """Whether the card speaks of encryption, which nothing here does."""
        return bool(_block(self.raw, "security").get("encryption"))


def is_json(content_type: str) -> bool:
    """Tell whether the content type is JSON or built on it."""
    return content_type == "application/json" or content_type.endswith("+json")


def _block(card: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = card.get(key)
    return found if isinstance(found, dict) else {}


def _listed(found: object) -> Iterator[dict[str, Any]]:
    """Yield the entries that have an id and a content type."""
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("contentType"), str):
            yield one


def _input(found: dict[str, Any]) -> DeclaredInput:
    accept = found.get("accept")
    size = found.get("maxSizeBytes")
    return DeclaredInput(
        id=found["id"],
        content_type=found["contentType"],
        is_required=found.get("required") is True,
        accept=tuple(one for one in accept if isinstance(one, str)) if isinstance(accept, list) else (),
        max_size=size if isinstance(size, int) else None,
        schema=_schema(found, "schema"),
    )


def _output(found: dict[str, Any]) -> DeclaredOutput:
    return DeclaredOutput(
        id=found["id"],
        content_type=found["contentType"],
        is_guaranteed=found.get("guaranteed") is True,
        schema=_schema(found, "schema"),
    )


def _stream(name: str, found: dict[str, Any]) -> DeclaredStream:
    return DeclaredStream(
        name=name,
        direction=str(found.get("direction", "outbound")),
        format=str(found.get("format", "bytes")),
        affinity=str(found.get("affinity", "dedicated")),
        description=str(found.get("description", "")),
        content_type=found.get("contentType") if isinstance(found.get("contentType"), str) else None,
        schema=_schema(found, "schema"),
        outbound_schema=_schema(found, "outboundSchema"),
        inbound_schema=_schema(found, "inboundSchema"),
    )


def _schema(found: dict[str, Any], key: str) -> dict[str, Any] | None:
    schema = found.get(key)
    return schema if isinstance(schema, dict) else None
