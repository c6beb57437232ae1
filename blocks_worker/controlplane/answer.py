"""What a server answered, as far as HTTP goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

UNAUTHORIZED = 401
#: First bytes of what a hub says.
_JSON = (b"{", b"[")


@dataclass(frozen=True)
class HttpAnswer:
    """What a server answered; names of headers compare without case."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_strange(self) -> bool:
        """Whether this may be another server than the one that was meant: no hub, or one that does not know us."""
        return self.status == UNAUTHORIZED or (self.body != b"" and self.body.lstrip()[:1] not in _JSON)
