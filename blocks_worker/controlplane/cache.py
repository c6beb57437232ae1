"""Credentials that are kept while they are fresh, and got once when they are not."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from blocks_worker.controlplane.sources import TokenResult

#: The part of its life after which a credential is old.
_FRESH = 0.8


@dataclass
class _Kept:
    """One credential, and the lock of those who want it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str | None = None
    fresh_until: float = 0.0


class CredentialCache:
    """Keep tokens by key, each for 80 % of its life; of many who ask for a missing one, one gets it for all.

    ``CredentialCache()`` is empty; nothing of it is written anywhere.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, key: Hashable, acquire: Callable[[], TokenResult]) -> str:
        """Return the token under a key; `acquire` is asked when there is no fresh one; what it raises comes through."""
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
        with kept.lock:
            if kept.token is None or self._clock.monotonic() >= kept.fresh_until:
                result = acquire()
                kept.token = result.token
                kept.fresh_until = self._clock.monotonic() + result.expires_in * _FRESH
            return kept.token

    def drop(self, key: Hashable) -> bool:
        """Forget a token, because it was refused; tell whether there was one."""
        with self._lock:
            kept = self._kept.pop(key, None)
        return kept is not None and kept.token is not None

    def clear(self) -> None:
        """Forget all tokens."""
        with self._lock:
            self._kept.clear()
