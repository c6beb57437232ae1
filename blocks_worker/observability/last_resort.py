"""What is written where nobody configured logging: what no exception and no callback tells, in whole lines."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

#: Loggers of what a consumer uses: their warnings are of troubles that calls, waits and callbacks tell as well.
_TOLD_OTHERWISE = tuple(f"blocks_worker.{part}." for part in ("client", "controlplane", "streams", "transports"))


class LastResort(logging.Handler):
    """Stand in for the handler that a program did not make; where any other is there, write nothing.

    Without it, Python prints the bare word of each warning. An exception is always written: in a callback, or of a
    thread, nobody else hears of it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream

    def filter(self, record: logging.LogRecord) -> bool:
        """Let pass what nobody else tells."""
        is_told = record.exc_info is None and record.name.startswith(_TOLD_OTHERWISE)
        return not is_told and not self._has_others(record.name) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it as a line of text."""
        # With the first line only: most programs that import this package never log one.
        from blocks_worker.observability.logs import readable

        stream = self._stream or sys.stderr
        if stream is None:  # a program without a console
            return
        try:
            stream.write(readable(record) + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001 - the usual dump of a line that cannot be written would hold its secrets
            return

    def _has_others(self, name: str) -> bool:
        """Tell whether the program handles this logger's records itself."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False
