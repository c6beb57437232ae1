"""Who asks: a bearer token becomes a principal, and a checked token is remembered until it expires."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from blocks_worker.hub.auth.tokens import Kind
from blocks_worker.hub.problems import UNAUTHORIZED, RefusalError
from blocks_worker.hub.task_service import Consumer, Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from blocks_worker.concurrency import Clock
    from blocks_worker.hub.auth.tokens import Tokens

#: Checked tokens of one kind that are remembered.
REMEMBERED = 10_000
#: The word for a token whose API key was taken back.
REVOKED = "TokenRevoked"


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


Principal = TypeVar("Principal", bound=_Keyed)


class Guard:
    """Tell who holds a token; each door says which kind of principal it lets in.

    `revoked` holds the ids of API keys whose tokens count no more, remembered or not; `room` is how many
    checked tokens of one kind are remembered.
    """

    def __init__(self, tokens: Tokens, clock: Clock, revoked: Container[str], *, room: int = REMEMBERED) -> None:
        self._consumers = _Known(Kind.CONSUMER, tokens, clock, consumer_of, revoked, room=room)
        self._holders = _Known(Kind.INSTANCE, tokens, clock, holder_of, revoked, room=room)

    def consumer(self, bearer: str | None) -> Consumer:
        """Return the consumer whose token this is.

        Raises:
            RefusalError: 401, with the code that says why.
        """
        return self._consumers.admitted(bearer)[0]

    def holder(self, bearer: str | None) -> Holder:
        """Return the instance whose token this is.

        Raises:
            RefusalError: 401, with the code that says why.
        """
        return self._holders.admitted(bearer)[0]

    def either(self, bearer: str | None) -> Consumer | Holder:
        """Return the consumer or the instance whose token this is.

        Raises:
            RefusalError: 401, with the code that says why.
        """
        return self.admitted(bearer)[0]

    def admitted(self, bearer: str | None) -> tuple[Consumer | Holder, int]:
        """Return the consumer or the instance whose token this is, and when the token expires, in unix seconds.

        Raises:
            RefusalError: 401, with the code that says why.
        """
        if self._holders.knows(bearer):
            return self._holders.admitted(bearer)
        try:
            return self._consumers.admitted(bearer)
        except RefusalError as refusal:
            if refusal.problem.code == REVOKED:
                raise
            return self._holders.admitted(bearer)


class _Known(Generic[Principal]):
    """Remember the principals of checked tokens of one kind, by the digest of the token."""

    def __init__(
        self,
        kind: Kind,
        tokens: Tokens,
        clock: Clock,
        read: Callable[[Mapping[str, str]], Principal],
        revoked: Container[str],
        *,
        room: int,
    ) -> None:
        self._room = room
        self._revoked = revoked
        self._kind = kind
        self._tokens = tokens
        self._clock = clock
        self._read = read
        self._known: dict[bytes, tuple[Principal, int]] = {}

    def knows(self, bearer: str | None) -> bool:
        """Tell whether this token was checked before, and found to be one of the kind."""
        return bearer is not None and _digest(bearer) in self._known

    def admitted(self, bearer: str | None) -> tuple[Principal, int]:
        if bearer is None:
            raise RefusalError(UNAUTHORIZED, "TokenMissing", "send 'Authorization: Bearer' with an access token")
        digest = _digest(bearer)
        found = self._known.get(digest)
        if found is None or self._clock.wall_ms() >= found[1] * 1000:
            found = self._check(bearer, digest)
        # Asked each time: a key may be taken back while its tokens are remembered.
        if found[0].key in self._revoked:
            raise RefusalError(UNAUTHORIZED, REVOKED, "the API key behind this token was revoked: get another key")
        return found

    def _check(self, bearer: str, digest: bytes) -> tuple[Principal, int]:
        claims = self._tokens.verify(self._kind, bearer)
        try:
            principal = self._read(claims.fields)
        except KeyError as error:
            raise RefusalError(UNAUTHORIZED, "TokenInvalid", "the token does not say whose it is") from error
        if len(self._known) >= self._room:
            del self._known[next(iter(self._known))]
        self._known[digest] = (principal, claims.expires)
        return principal, claims.expires


def _digest(bearer: str) -> bytes:
    return hashlib.sha256(bearer.encode("utf-8", errors="replace")).digest()


def consumer_fields(consumer: Consumer) -> dict[str, str]:
    """Return what a credential says of a consumer."""
    return {"owner": consumer.owner, "session": consumer.session_channel or "", "key": consumer.key}


def consumer_of(fields: Mapping[str, str]) -> Consumer:
    """Return the consumer that a credential names."""
    return Consumer(owner=fields["owner"], session_channel=fields["session"] or None, key=fields["key"])


def holder_fields(holder: Holder) -> dict[str, str]:
    """Return what a credential says of an instance."""
    return {
        "id": holder.agent_id,
        "agent": holder.agent_name,
        "instance": holder.instance_id,
        "incarnation": holder.incarnation,
        "owner": holder.owner,
        "key": holder.key,
        **({"user": holder.user} if holder.user else {}),
    }


def holder_of(fields: Mapping[str, str]) -> Holder:
    """Return the instance that a credential names."""
    return Holder(
        agent_id=fields["id"],
        agent_name=fields["agent"],
        instance_id=fields["instance"],
        incarnation=fields["incarnation"],
        owner=fields["owner"],
        key=fields["key"],
        user=fields.get("user", ""),
    )
