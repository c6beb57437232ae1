"""What a hub does first whose ledger came back from a copy: nothing that was given since the copy counts any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import TaskService

#: Why a task ended that waits in the copy, may have begun since, and may not begin twice.
RESTORED = "restored"

_logger = logging.getLogger(__name__)


def begin_anew(ledger: Ledger, tasks: TaskService, instances: InstanceService) -> None:
    """Of a ledger that is a copy: void all leases, have instances come anew, give no number again.

    What runs in the copy is offered again in an epoch that nobody has seen.
    """
    if not ledger.begin_anew():
        return
    instances.end_of_all(ledger)
    for row in ledger.waiting_once():
        tasks.turns.cancel(ledger, row, RESTORED, terminated=False)
    ledger.noted("ledger_restored")
    _logger.warning("ledger_restored")
