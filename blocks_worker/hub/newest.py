"""Which of several links of one incarnation counts: the newest; the older one is told so and closed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from blocks_worker.hub.answers import Holder
from blocks_worker.protocol.link import REPLACED

if TYPE_CHECKING:
    from blocks_worker.hub.answers import Consumer

_logger = logging.getLogger(__name__)


class Endable(Protocol):
    """Be a link that can be closed."""

    def end(self, code: int, reason: str) -> None:
        """Close it; it reads nothing more."""


class Newest:
    """Know the link of each incarnation; a consumer may have as many as he likes."""

    def __init__(self) -> None:
        self._of: dict[str, Endable] = {}

    def came(self, who: Consumer | Holder, link: Endable) -> None:
        """Have this link stand for its incarnation; who had the place is closed."""
        if not isinstance(who, Holder):
            return
        older = self._of.get(who.incarnation)
        self._of[who.incarnation] = link
        if older is not None:
            _logger.info("link_replaced", extra={"instance": who.instance_id, "agent": who.agent_name})
            older.end(REPLACED, "this incarnation has opened a newer link")

    def left(self, who: Consumer | Holder, link: Endable) -> bool:
        """Forget a link that has ended; tell whether what it held is without one now.

        What was given over one that was replaced is not: the newer one follows from where it was, and its lists tell.
        """
        if not isinstance(who, Holder):
            return True
        if self._of.get(who.incarnation) is not link:
            return False
        del self._of[who.incarnation]
        return True
