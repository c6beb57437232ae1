"""What was done at a hub and what was refused, written down: who, when, from where; never a secret or a payload."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.journal import Journal
from blocks_worker.observability.redact import clean_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from blocks_worker.concurrency import Clock

#: Two files of the state folder: acts of those who are known, and refusals, with which a stranger can push out
#: other refusals only.
ACTS = "audit.jsonl"
REFUSALS = "audit-refused.jsonl"
#: Refusals of one code that are written in one minute; the next one then tells how many were left out.
MOST_A_MINUTE = 600
#: Codes that are counted apart; they are the hub's own words, so there are few.
MOST_CODES = 200

#: One act: its name, and what is told of it.
Act = tuple[str, "Mapping[str, Any]"]


class Audit:
    """Write acts and refusals down, one JSON line each; any thread may."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._acts = Journal(folder / ACTS)
        self._refusals = Journal(folder / REFUSALS)
        self._limits = _Limits()
        self._lock = threading.Lock()

    def acted(self, acts: Iterable[Act]) -> None:
        """Write down what was done."""
        self._acts.add([self._line(event, fields) for event, fields in acts])

    def refused(self, code: str, **fields: Any) -> None:
        """Write down what was refused, unless the same was refused too often in this minute."""
        with self._lock:
            left_out = self._limits.admits(code, self._clock.monotonic())
        if left_out is None:
            return
        more = {"leftOut": left_out} if left_out else {}
        self._refusals.add([self._line("refused", {"code": code, **fields, **more})])

    def _line(self, event: str, fields: Mapping[str, Any]) -> str:
        at = datetime.fromtimestamp(self._clock.wall_ms() / 1000, timezone.utc).isoformat(timespec="milliseconds")
        told = {name: clean_value(name, value) for name, value in fields.items() if value is not None}
        return json.dumps({"at": at, "event": event, **told}, ensure_ascii=True)


class _Limits:
    """Count by code and minute."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._minute = -1

    def admits(self, code: str, now: float) -> int | None:
        """Return how many were left out before this one; None when it is left out too."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        if code not in self._counts and len(self._counts) >= MOST_CODES:
            code = ""
        count = self._counts[code] = self._counts.get(code, 0) + 1
        if count > MOST_A_MINUTE:
            self._left_out[code] = self._left_out.get(code, 0) + 1
            return None
        return self._left_out.pop(code, 0)
