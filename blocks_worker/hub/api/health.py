"""Whether the hub lives, whether it can serve, and its numbers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.api.auth import LOCAL_OWNER
from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.problems import FORBIDDEN, RefusalError
from blocks_worker.observability.conditions import verdict
from blocks_worker.observability.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.auth.logins import Logins
    from blocks_worker.hub.readiness import Readiness
    from blocks_worker.hub.store.store import Store
    from blocks_worker.observability.metrics import Metrics

_OK = 200
_NOT_IMPLEMENTED = 501


class HealthDoors:
    """Answer whoever asks how the hub does.

    `is_private`: callers are on this machine, and the metrics are open to them; elsewhere the hub's owner alone
    sees them, for they name everybody's agents.
    """

    def __init__(
        self,
        *,
        readiness: Readiness,
        metrics: Metrics,
        store: Store,
        logins: Logins,
        executor: Executor,
        is_private: bool,
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._store = store
        self._logins = logins
        self._executor = executor
        self._is_private = is_private

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("GET", "/livez", self.alive, gives=dict),
            Door("GET", "/healthz", self.alive, gives=dict),
            Door("GET", "/readyz", self.ready, gives=dict, refuses=dict),
            Door("GET", "/metrics", self.numbers, gives=str),
        ]

    async def alive(self, _call: Call) -> Answer:
        """Say that the process answers.

        Who: anybody
        Answers: 200
        """
        return Answer(_OK, b'{"status":"ok"}')

    async def ready(self, _call: Call) -> Answer:
        """Say whether the ledger is read, written and swept, and the local network takes connections.

        Who: anybody
        Answers: 200 · 503; one entry a condition
        """
        status, body = verdict(self._readiness.conditions())
        return Answer(status, body)

    async def numbers(self, call: Call) -> Answer:
        """Show the metrics, as Prometheus reads them.

        Who: anybody on this machine; of a hub that others reach, or with `--public`, the API key of the state folder
        Answers: 200 · 401, 403 another key · 501 the extra `metrics` is not installed
        """
        if not self._is_private:
            self._check(call)
        loop = asyncio.get_running_loop()
        try:
            text = await loop.run_in_executor(self._executor, self._metrics.text)
        except ConfigurationError as error:
            raise RefusalError(_NOT_IMPLEMENTED, "NotInstalled", str(error)) from error
        return Answer(_OK, text, content_type=CONTENT_TYPE)

    def _check(self, call: Call) -> None:
        owner = self._store.read(lambda ledger: self._logins.owner(ledger, call.api_key))
        if owner != LOCAL_OWNER:
            raise RefusalError(FORBIDDEN, "Forbidden", "metrics are for the hub's owner: send a key of his")
