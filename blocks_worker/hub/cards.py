"""Cards as the hub meets them: checked before they are kept, read for what they declare."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from blocks_worker.hub.problems import BAD_REQUEST, RefusalError
from blocks_worker.protocol.cards import Card, card_errors
from blocks_worker.protocol.codec import decode_trusted, encode

#: Cards that are remembered: a fleet that comes back shows few different ones.
_KEPT = 64
#: Most findings in one refusal.
_TOLD = 10


def check_card_of(card: dict[str, Any] | None) -> None:
    """Refuse a card that no worker could be started with.

    Raises:
        RefusalError: 400, with the path of each wrong key and the rule.
    """
    errors = _errors(encode(card)) if card else ()
    if errors:
        more = f"; and {len(errors) - _TOLD} more" if len(errors) > _TOLD else ""
        text = f"the agent card is wrong: {'; '.join(errors[:_TOLD])}{more}; 'blocks check' shows it all"
        raise RefusalError(BAD_REQUEST, "InvalidInput", text, details={"reason": "card", "errors": errors[:_TOLD]})


@lru_cache(maxsize=_KEPT)
def card_of(text: str | None) -> Card:
    """Return what a stored card declares; an agent without one declares nothing."""
    return Card(decode_trusted(dict[str, Any], text.encode()) if text else None)


@lru_cache(maxsize=_KEPT)
def _errors(card: bytes) -> tuple[str, ...]:
    return tuple(card_errors(decode_trusted(dict[str, Any], card)))
