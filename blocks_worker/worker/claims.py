"""How an offered task becomes ours: claims in natural batches, repeated until the offer is too old."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from blocks_worker.batching import Batcher
from blocks_worker.concurrency import Backoff
from blocks_worker.errors import BlocksError
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.steps import INLINE_STEPS
from blocks_worker.worker.parts import answered_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.leases import Claim, ClaimAnswer
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.ports import RunApi

_logger = logging.getLogger(__name__)

#: Seconds until a claim without an answer is repeated; an answer that comes later is not used.
CLAIM_TIMEOUT = 5.0
#: Most bytes of inputs and steps that the answer to one request may bring; each may be as large as a body.
INPUT_BYTES = 32 * MAX_BODY


class Claims:
    """Claim and refuse offers; the threads that do it at the same moment share one request."""

    def __init__(self, api: RunApi, *, clock: Clock, entropy: Entropy, counters: Counters) -> None:
        self._api = api
        self._clock = clock
        self._entropy = entropy
        self._counters = counters
        self._never = threading.Event()
        self._batcher: Batcher[Claim, ItemResult[ClaimAnswer]] = Batcher(
            self._flush, size_of=_brought, max_bytes=INPUT_BYTES
        )

    def claim(self, claim: Claim, until: float, is_over: Callable[[], bool]) -> ClaimAnswer | None:
        """Return the lease, or None when the hub refused, or the offer grew too old or was withdrawn meanwhile."""
        backoff = Backoff(self._entropy, cap=2.0)
        was_asked = False
        while True:
            now = self._clock.monotonic()
            if is_over():
                return None
            if now >= until:
                self._counters.count("claims_failed" if was_asked else "claims_too_late")
                return None
            was_asked = True
            result = self._try(claim)
            if isinstance(result, BlocksError):
                pause = backoff.after(result)
            elif _is_not_now(result) or self._clock.monotonic() >= until:
                pause = backoff.next()
            else:
                return self._lease(claim, result)
            self._clock.wait(self._never, max(0.0, min(pause, until - self._clock.monotonic())))

    def refuse(self, nacks: Sequence[Claim]) -> None:
        """Send offers back."""
        self._batcher.call_many(nacks)

    def _try(self, claim: Claim) -> ItemResult[ClaimAnswer] | BlocksError:
        """Return the hub's answer, or why there is none."""
        try:
            return self._batcher.call(claim)
        except BlocksError as error:
            _logger.debug("claim_retry", extra={"task": claim.task_id, "error": str(error)})
            return error

    def _lease(self, claim: Claim, result: ItemResult[ClaimAnswer]) -> ClaimAnswer | None:
        if result.status == HTTPStatus.OK and result.body is not None:
            return result.body
        self._counters.count("claims_refused")
        _logger.debug("claim_refused", extra={"task": claim.task_id, "status": result.status})
        return None

    def _flush(self, items: Sequence[Claim]) -> Sequence[ItemResult[ClaimAnswer]]:
        return answered_each(items, lambda claims: self._api.claims(claims, timeout=CLAIM_TIMEOUT))


def _is_not_now(result: ItemResult[ClaimAnswer]) -> bool:
    return result.status >= HTTPStatus.INTERNAL_SERVER_ERROR or result.status == HTTPStatus.TOO_MANY_REQUESTS


def _brought(claim: Claim) -> int:
    """Return how many bytes of input and steps the answer may bring at most."""
    if claim.nack is not None:
        return 0
    return INLINE_STEPS + (MAX_BODY if claim.have is None else 0)
