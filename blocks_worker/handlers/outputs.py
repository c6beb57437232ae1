"""What a handler gave against what the card promises: each difference is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.declared import is_json
from blocks_worker.protocol.schemas import foreign_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocks_worker.handlers.results import OutArtifact
    from blocks_worker.protocol.cards import Card
    from blocks_worker.protocol.schemas import Schema

#: Most findings of one output that are told.
_TOLD = 5


class OutputCheck:
    """Know the outputs of one card; made once, used by all slots."""

    def __init__(self, card: Card) -> None:
        self.known = frozenset(card.outputs)
        self.guaranteed = frozenset(each.id for each in card.outputs.values() if each.is_guaranteed)
        self._schemas = {
            each.id: foreign_schema(each.schema)
            for each in card.outputs.values()
            if each.schema and is_json(each.content_type)
        }

    def warnings(self, artifacts: Iterable[OutArtifact], published: Iterable[str] = ()) -> list[str]:
        """Return what is wrong with JSON outputs, and with the ids of outputs published during the run."""
        if not self._schemas and not published:
            return []
        unknown = sorted(set(published) - self.known) if self.known else []
        ids = ", ".join(sorted(self.known))
        return [
            *(f"output {output_id!r} is not one of the card's: {ids}" for output_id in unknown),
            *(text for artifact in artifacts for text in self._checked(artifact)),
        ]

    def _checked(self, artifact: OutArtifact) -> Iterator[str]:
        schema = self._schemas.get(artifact.output_id or "")
        content = None if schema is None else _content(artifact)
        if schema is None or content is None:
            return
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield f"output {artifact.output_id!r} is not JSON: {error}"
        else:
            yield from _differences(artifact, schema, value)


def _differences(artifact: OutArtifact, schema: Schema, value: Any) -> Iterator[str]:
    for finding in schema.find(value)[:_TOLD]:
        yield f"output {artifact.output_id!r} does not fit its schema: {finding}"


def _content(artifact: OutArtifact) -> bytes | None:
    """Return what there is to check; a file larger than a form may be is taken as it is."""
    data = artifact.data
    if not isinstance(data, Path):
        return data if len(data) <= MAX_BODY else None
    try:
        return data.read_bytes() if data.stat().st_size <= MAX_BODY else None
    except OSError:  # whoever sends it says so
        return None
