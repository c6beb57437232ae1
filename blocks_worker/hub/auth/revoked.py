"""Which API keys were taken back: asked with each request, and so kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class RevokedKeys:
    """Know the ids of revoked keys; rows of keys are never deleted, so the ledger always has them all."""

    def __init__(self) -> None:
        self._ids: frozenset[str] = frozenset()

    def load(self, ids: Iterable[str]) -> None:
        """Know these from now on."""
        self._ids = frozenset(ids)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._ids
