"""Refusals of offers on their way to the hub: hints, of which none is repeated."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.batching import BATCH_ITEMS
from blocks_worker.errors import BlocksError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.protocol.leases import Claim
    from blocks_worker.worker.counters import Counters

_logger = logging.getLogger(__name__)

#: Refusals that may wait; one too many is lost, and counted: the offer then times out by itself.
NACKS = 1024


class Refusals:
    """Keep refusals until they are sent; the owner's lock is held in `add` and `take`."""

    def __init__(self, nack: Callable[[Sequence[Claim]], object], counters: Counters) -> None:
        self._nack = nack
        self._counters = counters
        self._waiting: list[Claim] = []

    def add(self, claim: Claim) -> bool:
        """Take a refusal; tell whether there was room for it."""
        if len(self._waiting) >= NACKS:
            self._counters.count("nacks_lost")
            return False
        self._waiting.append(claim)
        return True

    def take(self) -> list[Claim]:
        """Return what is to be sent next."""
        taken, self._waiting = self._waiting[:BATCH_ITEMS], self._waiting[BATCH_ITEMS:]
        return taken

    def send(self, claims: list[Claim]) -> None:
        """Send them once."""
        if not claims:
            return
        try:
            self._nack(claims)
        except BlocksError as error:
            # The hub notices by itself when the offer times out.
            self._counters.count("nacks_lost", len(claims))
            _logger.debug("nack_failed", extra={"error": str(error)})
        except Exception:  # one broken answer must not end a thread that reports
            self._counters.count("nacks_lost", len(claims))
            _logger.exception("nack_broken")
