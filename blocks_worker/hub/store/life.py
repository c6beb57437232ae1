"""Which hub a ledger serves: the one that began on it last. An older one that is still there finds out, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger

_LIFE = "hub_life"


def begin_life(ledger: Ledger, life: str) -> None:
    """Have the ledger serve this hub from now on, whoever had it before."""
    ledger.set_meta(_LIFE, life)


def check_life(ledger: Ledger, life: str) -> None:
    """Look whether the ledger is still this hub's.

    Raises:
        StoreError: another one began on it, which the lock of the folder should have prevented.
    """
    if ledger.meta(_LIFE) != life:
        raise StoreError("another hub has begun on this ledger, and this one ends: keep hub.lock", code="taken")
