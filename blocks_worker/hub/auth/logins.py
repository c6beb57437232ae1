"""What a key is traded for: token pairs and channel grants for instances and consumers, renewed by rotation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blocks_worker.hub.auth.guard import consumer_fields, consumer_of, holder_fields, holder_of
from blocks_worker.hub.auth.tokens import Kind, hashed, network_key
from blocks_worker.hub.network.access import mint
from blocks_worker.hub.problems import UNAUTHORIZED, RefusalError
from blocks_worker.hub.store import credentials
from blocks_worker.hub.task_service import Consumer
from blocks_worker.protocol.channels import control_channel, session_channel, wake_channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.audit import Audit
    from blocks_worker.hub.auth.signing import SigningKeys
    from blocks_worker.hub.auth.tokens import Lives, Tokens
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Holder

_logger = logging.getLogger(__name__)

_MINUTE = 60


@dataclass(frozen=True)
class Entered:
    """Be who came in with an API key: its owner, and the id of the key."""

    owner: str
    key: str


@dataclass(frozen=True)
class Pair:
    """Be an access token with the refresh token that follows it, and a channel grant; lives are in seconds."""

    access_token: str
    refresh_token: str
    expires_in: float
    pam_token: str
    pam_expires_in: float


class Logins:
    """Trade API keys and refresh tokens for pairs; everything happens inside the caller's transaction."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        signing: SigningKeys,
        lives: Lives,
        steady: SteadyClock,
        entropy: Entropy,
        audit: Audit,
    ) -> None:
        self._audit = audit
        self._tokens = tokens
        self._signing = signing
        self._lives = lives
        self._steady = steady
        self._entropy = entropy

    def owner(self, ledger: Ledger, api_key: str | None) -> str:
        """Return whose API key this is; only reads.

        Raises:
            RefusalError: 401 with code ``API_KEY_INVALID``.
        """
        owner = credentials.owner_of_key(ledger.connection, hashed(api_key)) if api_key else None
        if owner is not None:
            return owner
        if api_key and credentials.is_revoked(ledger.connection, hashed(api_key)):
            raise RefusalError(UNAUTHORIZED, "API_KEY_INVALID", "the API key was revoked")
        raise RefusalError(UNAUTHORIZED, "API_KEY_INVALID", "the API key is missing or unknown")

    def enter(self, ledger: Ledger, api_key: str | None) -> Entered:
        """Return who comes in with this API key, and note that it was used.

        Raises:
            RefusalError: 401 with code ``API_KEY_INVALID``.
        """
        owner, digest = self.owner(ledger, api_key), hashed(api_key or "")
        credentials.note_use(ledger.connection, digest, self._steady.now_ms())
        return Entered(owner, credentials.key_id(digest))

    def new_consumer(self, owner: str, key: str) -> Consumer:
        """Return a consumer with a session channel of its own."""
        return Consumer(owner=owner, session_channel=session_channel(self._entropy.name()), key=key)

    def session(self, bearer: Consumer | Holder, *, expires: int, previous: str | None) -> tuple[Consumer, Pair]:
        """Return a session for whoever holds an access token that expires then, in unix seconds.

        It lives no longer than that token, so that it cannot be prolonged by itself. The channel of the previous
        session is kept when that was the same owner's.

        Raises:
            RefusalError: 401 with code ``TokenExpired``.
        """
        left = expires - self._steady.now_ms() // 1000
        if left <= 0:
            raise RefusalError(UNAUTHORIZED, "TokenExpired", "the token has expired: get a new one")
        consumer = self._as_before(self.new_consumer(bearer.owner, bearer.key), previous)
        life, grant_life = min(self._lives.access, left), min(self._lives.grant, left)
        grant = self._session_grant(consumer, grant_life)
        self._audit.acted([("session_issued", {"by": consumer.owner, "key": consumer.key})])
        return consumer, Pair(self._access(consumer, life), "", life, grant, grant_life)

    def _as_before(self, consumer: Consumer, previous: str | None) -> Consumer:
        if previous is None:
            return consumer
        try:
            before = consumer_of(self._tokens.verify(Kind.CONSUMER, previous).fields)
        except (RefusalError, KeyError):
            return consumer
        return replace(before, key=consumer.key) if before.owner == consumer.owner else consumer

    def consumer_pair(self, ledger: Ledger, consumer: Consumer) -> Pair:
        """Return tokens with which a consumer submits tasks and listens to its session channel."""
        access = self._access(consumer, self._lives.access)
        grant = self._session_grant(consumer, self._lives.grant)
        ledger.noted("tokens_issued", by=consumer.owner, key=consumer.key, kind=Kind.CONSUMER.value)
        return self._pair(ledger, Kind.CONSUMER, consumer_fields(consumer), access, grant)

    def instance_pair(self, ledger: Ledger, holder: Holder) -> Pair:
        """Return tokens with which an instance works and listens to its control channel."""
        access = self._tokens.issue(Kind.INSTANCE, holder.agent_id, holder_fields(holder), self._lives.access)
        told = {"agent": holder.agent_name, "instance": holder.instance_id, "incarnation": holder.incarnation}
        ledger.noted("tokens_issued", by=holder.owner, key=holder.key, kind=Kind.INSTANCE.value, **told)
        grant = self._grant(
            holder.user or holder.instance_id, control_channel(holder.agent_id), self._lives.grant, holder.key
        )
        return self._pair(ledger, Kind.INSTANCE, holder_fields(holder), access, grant)

    def renewed(self, ledger: Ledger, entered: Entered, refresh_token: str) -> Pair | None:
        """Return the next pair for a refresh token; None when the token is not good any more.

        Nothing is raised here for a used token: that it was used stays written.
        """
        row = credentials.use_refresh(ledger.connection, hashed(refresh_token), self._steady.now_ms())
        if row is None or row.subject["owner"] != entered.owner:
            return None
        if not row.fresh:
            _logger.warning("refresh_token_repeated", extra={"kind": row.kind})
            ledger.noted("refresh_token_repeated", by=entered.owner, key=entered.key, kind=row.kind)
            return None
        ledger.noted("refresh_token_used", by=entered.owner, key=entered.key, kind=row.kind)
        if row.kind == Kind.CONSUMER.value:
            return self.consumer_pair(ledger, consumer_of({**row.subject, "key": entered.key}))
        return self.instance_pair(ledger, holder_of({**row.subject, "key": entered.key}))

    def task_grant(self, channel: str, consumer: Consumer) -> str:
        """Return a grant to read one task's channel, for any user of the network, as long as the API key counts."""
        told = {"by": consumer.owner, "key": consumer.key, "channel": channel}
        self._audit.acted([("task_grant_issued", told)])
        return self._mint(None, read=[channel], write=[], life=self._lives.grant, key=consumer.key)

    def stream_grant(self, user_id: str | None, *, read: list[str], write: list[str], life: int, key: str) -> str:
        """Return a grant to use streams, as long as the API key counts; without a user id whoever holds it may."""
        return self._mint(user_id, read=read, write=write, life=life, key=key)

    def stream_life(self, bearer: Consumer | Holder, *, expires: int) -> int:
        """Return the seconds that a grant of streams may live.

        A consumer's ends with his access token, which expires then, in unix seconds: what was traded for a token
        of somebody's own endpoint lives no longer than that.
        """
        if not isinstance(bearer, Consumer):
            return self._lives.grant
        return max(1, min(self._lives.grant, expires - self._steady.now_ms() // 1000))

    @property
    def grant_minutes(self) -> int:
        """Whole minutes that a channel grant lives at most."""
        return -(-self._lives.grant // _MINUTE)

    def _access(self, consumer: Consumer, life: int) -> str:
        return self._tokens.issue(Kind.CONSUMER, consumer.owner, consumer_fields(consumer), life)

    def _session_grant(self, consumer: Consumer, life: int) -> str:
        session = consumer.session_channel or ""
        return self._grant(session.partition(".")[2], session, life, consumer.key)

    def _pair(self, ledger: Ledger, kind: Kind, subject: Mapping[str, str], access: str, grant: str) -> Pair:
        refresh = f"rt_{self._entropy.token()}"
        now = self._steady.now_ms()
        credentials.keep_refresh(
            ledger.connection,
            hashed(refresh),
            kind=kind.value,
            subject=subject,
            expires=now + self._lives.refresh * 1000,
            now=now,
        )
        return Pair(access, refresh, self._lives.access, grant, self._lives.grant)

    def _grant(self, user_id: str, channel: str, life: int, key: str) -> str:
        """Return a grant to hear one channel, and to wake one's own poll."""
        wake = wake_channel(user_id)
        return self._mint(user_id, read=[channel, wake], write=[wake], life=life, key=key)

    def _mint(self, user_id: str | None, *, read: list[str], write: list[str], life: int, key: str) -> str:
        """Return a grant that lives `life` seconds.

        The network counts whole minutes: the grant counts as made so much earlier that they end with it.
        """
        minutes = -(-life // _MINUTE)
        return mint(
            network_key(self._signing.newest.secret),
            user_id=user_id,
            read=read,
            write=write,
            key=key,
            ttl_minutes=minutes,
            now_s=self._steady.now_ms() // 1000 + life - minutes * _MINUTE,
        )
