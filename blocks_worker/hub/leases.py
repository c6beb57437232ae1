"""Proofs without a row: the lease of a run and the message key of an incarnation, made from the hub's secret."""

from __future__ import annotations

import hmac
from functools import lru_cache


def lease_for(secret: bytes, task_id: str, epoch: int, incarnation: str) -> str:
    """Return the lease of one run: it dies with the epoch."""
    return _mac(secret, f"lease:{task_id}:{epoch}:{incarnation}")


def is_lease(secret: bytes, lease: str, task_id: str, epoch: int, incarnation: str) -> bool:
    """Tell whether this is the lease of that run, in constant time."""
    own = lease_for(secret, task_id, epoch, incarnation)
    return hmac.compare_digest(lease.encode("utf-8", errors="replace"), own.encode())


@lru_cache(maxsize=4096)
def message_key(secret: bytes, incarnation: str) -> str:
    """Return the key that signs control messages for one incarnation."""
    return _mac(secret, f"message-key:{incarnation}")


def _mac(secret: bytes, text: str) -> str:
    return hmac.digest(secret, text.encode("utf-8", errors="replace"), "sha256").hex()
