"""Whether hub and network are within reach: each trouble is told, and its end once, when there is none left."""

from __future__ import annotations

import logging
import threading
from typing import Literal

Way = Literal["hub", "network"]

_logger = logging.getLogger(__name__)


class Reach:
    """Know which ways are in trouble. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost: set[Way] = set()

    def lost(self, way: Way, **fields: object) -> None:
        """Say that a way is in trouble, with what is known of it."""
        with self._lock:
            self._lost.add(way)
        _logger.warning("transport_retry", extra=fields)

    def has(self, way: Way) -> bool:
        """Tell whether nothing is known to be wrong with a way."""
        with self._lock:
            return way not in self._lost

    def found(self, way: Way) -> None:
        """Take note that a way is open; say so when it was the last one in trouble."""
        with self._lock:
            was_lost = way in self._lost
            self._lost.discard(way)
            is_well = not self._lost
        if was_lost and is_well:
            _logger.info("transport_recovered")
