"""Which hub a ledger serves: the one that began on it last. An older one that is still there finds out, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import StoreError

if TYPE_CHECKING:
    from blocks_worker.hub.store.ledger import Ledger

_LIFE = "hub_life"


class Life:
    """Be one hub's time on a ledger."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_begun = False

    def begin(self, ledger: Ledger) -> None:
        """Have the ledger serve this hub from now on, whoever had it before."""
        ledger.set_meta(_LIFE, self._name)
        self._has_begun = True

    def check(self, ledger: Ledger) -> None:
        """Look whether the ledger is still this hub's, once it began.

        Raises:
            StoreError: another one began on it, which the lock of the folder should have prevented.
        """
        if self._has_begun and ledger.meta(_LIFE) != self._name:
            raise StoreError("another hub has begun on this ledger, and this one ends: keep hub.lock", code="taken")
