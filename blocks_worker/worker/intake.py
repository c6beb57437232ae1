"""The door through which offers come in, by bus or heartbeat: what the dispatcher decides is done here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.protocol.leases import Claim
from blocks_worker.worker.dispatcher import Accept, Nack

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.control import StartTask
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.dispatcher import Dispatcher
    from blocks_worker.worker.run import Run

_logger = logging.getLogger(__name__)


class Intake:
    """Hand accepted offers to a slot and refused ones to whoever sends refusals; never calls the network."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        begin: Callable[[Run], None],
        refuse: Callable[[Claim], None],
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._dispatcher = dispatcher
        self._begin = begin
        self._refuse = refuse
        self._clock = clock
        self._counters = counters

    def offer(self, offer: StartTask) -> None:
        """Deal with an offer."""
        decision = self._dispatcher.offer(offer, self._clock.monotonic())
        answer = "taken" if isinstance(decision, Accept) else decision.reason
        _logger.debug("offered", extra={"task": offer.task_id, "epoch": offer.epoch, "answer": answer})
        if isinstance(decision, Accept):
            self._begin(decision.run)
        elif isinstance(decision, Nack):
            self._counters.count(f"offers_refused_{decision.reason}")
            self._refuse(Claim(task_id=offer.task_id, epoch=offer.epoch, nack=decision.reason))
        else:
            self._counters.count(f"offers_ignored_{decision.reason}")
