"""The fault hooks over HTTP, for tests in another process; only a network started for testing has this door."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.network.wire import Refused, Reply, ok, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from blocks_worker.hub.network.faults import Faults
    from blocks_worker.hub.network.wire import Request

PATH = "/_ctl"
#: Seconds before the network acts on what would cut the answer off.
GRACE = 0.05


class Control:
    """Do what a request says: ``{"do": verb, ...}``, the rest being the verb's own fields."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._tasks: set[asyncio.Task[None]] = set()
        self._verbs: dict[str, Callable[..., Any]] = {
            "add": self._add,
            "clear": faults.clear,
            "blackhole": lambda seconds: self._later(partial(self._darken, seconds)),
            "heal": faults.heal,
            "refuse": lambda seconds: self._later(partial(self._refuse, seconds)),
            "restart": lambda keep=False: self._later(partial(faults.restart, keep=keep)),
            "poison": lambda channel, payload, kind=0: faults.poison(channel, payload.encode(), kind=kind),
            "history_lag": faults.history_lag,
            "expire": faults.expire,
            "revoke": faults.revoke,
            "cache_403": faults.cache_403,
        }

    def obey(self, request: Request) -> Reply:
        """Carry out one request; a malformed one is refused."""
        try:
            wish = json.loads(request.body)
            verb = self._verbs[wish.pop("do")]
            verb(**wish)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(sentence(400, f"Not a fault: {error}", service=None)) from None
        return ok({"status": 200})

    def _add(self, kind: str, body: str | None = None, **options: Any) -> None:
        if body is not None:
            options["body"] = body.encode()
        self._faults.add(kind, **options)

    def _later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin when the answer to this request is on its way."""
        asyncio.get_running_loop().call_later(GRACE, self._begin, work)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _darken(self, seconds: float) -> None:
        self._faults.blackhole()
        await asyncio.sleep(seconds)
        self._faults.heal()

    async def _refuse(self, seconds: float) -> None:
        await self._faults.refuse()
        await asyncio.sleep(seconds)
        await self._faults.accept()
