"""Where a subscription goes on after a restart: the position up to which its owner has dealt with everything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Cursor:
    """A committed position; `saved_at` is unix milliseconds of the machine that saved it."""

    position: int
    region: int
    saved_at: int


class CursorStore(Protocol):
    """Keep one cursor for each subscription."""

    def load(self, key: str) -> Cursor | None:
        """Return the cursor saved under this key."""

    def save(self, key: str, cursor: Cursor) -> None:
        """Save the cursor under this key."""


class MemoryCursors:
    """Keep cursors as long as the process lives."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    def load(self, key: str) -> Cursor | None:
        """Return the cursor saved under this key."""
        return self._cursors.get(key)

    def save(self, key: str, cursor: Cursor) -> None:
        """Save the cursor under this key."""
        self._cursors[key] = cursor


def cursor_key(origin: str, subscribe_key: str, user_id: str, channels: Iterable[str]) -> str:
    """Return the name under which the cursor of these channels is kept."""
    text = "\n".join([origin, subscribe_key, user_id, *sorted(channels)])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
