"""What is said of a card when an instance starts: nothing of it stops the start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.runtime.options import InstancePlan

#: Who reads "encryption" in a card would else rely on it.
NOT_ENCRYPTED = "the card declares security.encryption, which is carried and not acted on: payloads are NOT encrypted"

_logger = logging.getLogger(__name__)


def log_card(plan: InstancePlan) -> None:
    """Write what may be better in the card, what it declares in vain, and that it was made here when it was."""
    about = {"agent": plan.agent_name}
    if not plan.declared.raw:
        _logger.info("card_made", extra={**about, "reason": "no card was given: one was made from the options"})
    for finding in plan.findings.all:
        _logger.warning("card_warning", extra={**about, "finding": str(finding), "cure": finding.cure})
    for note in plan.notes:
        _logger.log(note.level, note.event, extra={**about, "reason": note.reason})
    if plan.declared.declares_encryption:
        _logger.warning("payloads_not_encrypted", extra={**about, "reason": NOT_ENCRYPTED})
