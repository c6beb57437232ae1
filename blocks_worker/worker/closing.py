"""The end of a worker, step by step: each in its own guard."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_logger = logging.getLogger(__name__)


def close_each(steps: Iterable[tuple[str, Callable[[], object]]]) -> None:
    """Do the named steps of an end; one that fails must not keep the others from being done."""
    for name, step in steps:
        try:
            ended = step()
        except Exception:
            _logger.exception("stop_failed", extra={"part": name})
            continue
        if ended is False:
            _logger.warning("still_running", extra={"part": name})
