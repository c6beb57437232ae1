"""What a declared stream may carry: each event against the schema of its direction, compiled once for each card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.schemas import foreign_schema
from blocks_worker.streams.packing import without_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.protocol.declared import Card, DeclaredStream
    from blocks_worker.protocol.schemas import Schema

#: Most findings that are told at once.
_TOLD = 3


class EventCheck:
    """Check the events of one direction of one declared stream."""

    def __init__(self, name: str, schema: Schema) -> None:
        self._name = name
        self._schema = schema

    def __call__(self, event: Any) -> None:
        """Return for an event that fits.

        Raises:
            ValueError: it does not; the text names the stream and the rule.
        """
        findings = self._schema.find(without_bytes(event))
        if findings:
            told = "; ".join(str(finding) for finding in findings[:_TOLD])
            raise ValueError(f"an event of stream {self._name!r} is not as the card declares: {told}")


class StreamChecks:
    """Make the checks of a card's streams; those without a schema have none."""

    def __init__(self, card: Card) -> None:
        self._outgoing = _checks(card, _outgoing)
        self._incoming = _checks(card, _incoming)

    def outgoing(self, stream: DeclaredStream | None) -> EventCheck | None:
        """Return the check of what the agent writes."""
        return self._outgoing.get(stream.name) if stream is not None else None

    def incoming(self, stream: DeclaredStream | None) -> EventCheck | None:
        """Return the check of what the agent reads."""
        return self._incoming.get(stream.name) if stream is not None else None


def _checks(card: Card, schema_of: Callable[[DeclaredStream], dict[str, Any] | None]) -> dict[str, EventCheck]:
    return {
        name: EventCheck(name, foreign_schema(schema))
        for name, stream in card.streams.items()
        if stream.format == "events" and (schema := schema_of(stream)) is not None
    }


def _outgoing(stream: DeclaredStream) -> dict[str, Any] | None:
    if stream.direction == "bidirectional":
        return stream.outbound_schema
    return stream.schema if stream.direction == "outbound" else None


def _incoming(stream: DeclaredStream) -> dict[str, Any] | None:
    if stream.direction == "bidirectional":
        return stream.inbound_schema
    return stream.schema if stream.direction == "inbound" else None
