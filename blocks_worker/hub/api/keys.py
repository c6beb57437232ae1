"""The doors of API keys: make, list, revoke; a key opens them and no token, so that nothing short-lived lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.auth import LOCAL_OWNER
from blocks_worker.hub.api.batches import written
from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.auth.tokens import hashed
from blocks_worker.hub.problems import CONFLICT, FORBIDDEN, RefusalError, not_found
from blocks_worker.hub.store import credentials
from blocks_worker.protocol import codec
from blocks_worker.protocol.channels import OWNER, RESERVED_OWNERS, check_name
from blocks_worker.protocol.credentials import CreatedKey, CreateKey, KeyList, KeyRow

if TYPE_CHECKING:
    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.auth.logins import Logins
    from blocks_worker.hub.auth.revoked import RevokedKeys
    from blocks_worker.hub.instance_service import InstanceService
    from blocks_worker.hub.store.credentials import KeyFacts
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store

_OK = 200
_CREATED = 201
_NO_CONTENT = 204


class KeyDoors:
    """Let owners keep their keys; the owner of the hub keeps everybody's.

    `local_key` is the id of the key in the state folder, which stands or falls with its file.
    """

    def __init__(
        self,
        *,
        store: Store,
        logins: Logins,
        revoked: RevokedKeys,
        instances: InstanceService,
        local_key: str,
        steady: SteadyClock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._logins = logins
        self._revoked = revoked
        self._instances = instances
        self._local_key = local_key
        self._steady = steady
        self._entropy = entropy

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("POST", "/api/v1/auth/keys", self.create, takes=CreateKey, gives=CreatedKey),
            Door("GET", "/api/v1/auth/keys", self.show, gives=KeyList),
            Door("DELETE", "/api/v1/auth/keys/{id}", self.revoke),
        ]

    async def create(self, call: Call) -> Answer:
        """Make an API key; its secret is told this once.

        Who: API key; for another owner that of the state folder
        Answers: 201 · 400 · 401 · 403 another owner
        """
        request, key = codec.decode(CreateKey, call.body), call.api_key
        if request.owner is not None:
            check_name("owner", request.owner, OWNER)
            if request.owner in RESERVED_OWNERS:
                raise InvalidMessageError("name", f"owner {request.owner!r} is a reserved name: choose another")
        made = await written(self._store, lambda ledger: self._create(ledger, key, request))
        return Answer(_CREATED, codec.encode(made))

    async def show(self, call: Call) -> Answer:
        """List keys, never their secrets.

        Who: API key; that of the state folder sees all owners'
        Answers: 200 · 401
        """
        key = call.api_key
        return Answer(_OK, codec.encode(KeyList(keys=self._store.read(lambda ledger: self._rows(ledger, key)))))

    async def revoke(self, call: Call) -> Answer:
        """Take a key back for good: its tokens count no more, and its instances end.

        Who: API key of the same owner, or that of the state folder
        Answers: 204 · 401 · 404 · 409 `LocalKey`: that of the state folder
        """
        key, wanted = call.api_key, call.path["id"]
        await written(self._store, lambda ledger: self._revoke(ledger, key, wanted))
        self._revoked.load(self._store.read(lambda ledger: credentials.revoked_ids(ledger.connection)))
        return Answer(_NO_CONTENT, b"")

    def _create(self, ledger: Ledger, key: str | None, request: CreateKey) -> CreatedKey:
        asking = self._logins.enter(ledger, key).owner
        owner = request.owner or asking
        if asking not in {owner, LOCAL_OWNER}:
            raise RefusalError(FORBIDDEN, "Forbidden", "only the hub's owner makes keys for others")
        secret, now = f"bk_{self._entropy.token()}", self._steady.now_ms()
        digest = hashed(secret)
        credentials.add_key(ledger.connection, digest, owner=owner, name=request.name, now=now)
        ledger.noted("key_created", by=asking, created=credentials.key_id(digest), owner=owner)
        return CreatedKey(id=credentials.key_id(digest), name=request.name, owner=owner, created=now, key=secret)

    def _rows(self, ledger: Ledger, key: str | None) -> list[KeyRow]:
        asking = self._logins.owner(ledger, key)
        found = credentials.keys(ledger.connection, owner=None if asking == LOCAL_OWNER else asking)
        return [_shown(facts) for facts in found]

    def _revoke(self, ledger: Ledger, key: str | None, wanted: str) -> None:
        asking = self._logins.enter(ledger, key).owner
        found = credentials.keys(ledger.connection, key=wanted)
        if not found or asking not in {found[0].owner, LOCAL_OWNER}:
            raise not_found()
        facts = found[0]
        if facts.id == self._local_key:
            text = "this is the key of the state folder: to replace it, stop the hub and delete the file local-key"
            raise RefusalError(CONFLICT, "LocalKey", text)
        credentials.revoke(ledger.connection, facts.id)
        ledger.noted("key_revoked", by=asking, revoked=facts.id, owner=facts.owner)
        self._instances.end_of_key(ledger, facts.id)


def _shown(facts: KeyFacts) -> KeyRow:
    return KeyRow(
        id=facts.id,
        name=facts.name,
        owner=facts.owner,
        created=facts.created,
        last_used=facts.last_used,
        revoked=facts.revoked,
    )
