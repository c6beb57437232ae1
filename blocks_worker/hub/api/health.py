"""Whether the hub lives, and whether it can serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.api.calls import Answer, Door

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.hub.api.calls import Call

_OK = 200


class HealthDoors:
    """Answer probes; `check` raises when the hub cannot serve."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("GET", "/livez", self.alive),
            Door("GET", "/healthz", self.ready),
            Door("GET", "/readyz", self.ready),
        ]

    async def alive(self, _call: Call) -> Answer:
        """Say that the process answers.

        Who: anybody
        Answers: 200
        """
        return Answer(_OK, b'{"status":"ok"}')

    async def ready(self, _call: Call) -> Answer:
        """Say that the ledger can be read.

        Who: anybody
        Answers: 200 · 500 or 503
        """
        self._check()
        return Answer(_OK, b'{"status":"ok"}')
