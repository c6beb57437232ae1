"""The door by which the hub's owner changes the key of its signatures while everything goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from blocks_worker.hub.api.auth import LOCAL_OWNER
from blocks_worker.hub.api.batches import written
from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.problems import FORBIDDEN, RefusalError
from blocks_worker.protocol import codec
from blocks_worker.protocol.credentials import SigningKeyList, SigningKeyRow

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from blocks_worker.concurrency import Entropy
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.audit import Audit
    from blocks_worker.hub.auth.logins import Logins
    from blocks_worker.hub.auth.signing import SigningKeys
    from blocks_worker.hub.auth.tokens import Lives
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store

_CREATED = 201

_logger = logging.getLogger(__name__)


class SigningDoors:
    """Let the owner of the hub, and nobody else, have a new key sign."""

    def __init__(
        self,
        *,
        store: Store,
        logins: Logins,
        signing: SigningKeys,
        lives: Lives,
        audit: Audit,
        executor: Executor,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._logins = logins
        self._signing = signing
        self._lives = lives
        self._audit = audit
        self._executor = executor
        self._entropy = entropy

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [Door("POST", "/api/v1/auth/signing-keys", self.rotate, gives=SigningKeyList)]

    async def rotate(self, call: Call) -> Answer:
        """Have a new key sign tokens and grants; those before it count until what they signed is over.

        Who: API key of the state folder
        Answers: 201 · 401 · 403 another owner · 409 `TooManyKeys`
        """
        key = call.api_key
        owner = await written(self._store, lambda ledger: self._owner(ledger, key))
        loop = asyncio.get_running_loop()
        keys = await loop.run_in_executor(self._executor, self._signing.rotate, self._lives, self._entropy)
        new, old = keys[0], keys[1]
        told = {"by": owner, "created": new.id, "replaced": old.id, "replacedUntil": old.until, "counting": len(keys)}
        self._audit.acted([("signing_key_rotated", told)])
        _logger.info("signing_key_rotated", extra={"signs": new.id, "replaced": old.id, "counting": len(keys)})
        rows = [SigningKeyRow(id=each.id, made=each.made, until=each.until) for each in keys]
        return Answer(_CREATED, codec.encode(SigningKeyList(keys=rows)))

    def _owner(self, ledger: Ledger, key: str | None) -> str:
        owner = self._logins.enter(ledger, key).owner
        if owner != LOCAL_OWNER:
            raise RefusalError(FORBIDDEN, "Forbidden", "only the hub's owner has its signing key changed")
        return owner
