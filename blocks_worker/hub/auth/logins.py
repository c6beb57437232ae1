"""What a key is traded for: token pairs and channel grants for instances and consumers, renewed by rotation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.auth.guard import consumer_fields, consumer_of, holder_fields, holder_of
from blocks_worker.hub.auth.tokens import Kind, hashed
from blocks_worker.hub.network.access import mint
from blocks_worker.hub.problems import UNAUTHORIZED, RefusalError
from blocks_worker.hub.store import credentials
from blocks_worker.hub.task_service import Consumer
from blocks_worker.protocol.channels import control_channel, session_channel, wake_channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.auth.tokens import Lives, Tokens
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Holder

_logger = logging.getLogger(__name__)

_MINUTE = 60


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
        self, *, tokens: Tokens, access_secret: bytes, lives: Lives, steady: SteadyClock, entropy: Entropy
    ) -> None:
        self._tokens = tokens
        self._access_secret = access_secret
        self._lives = lives
        self._steady = steady
        self._entropy = entropy

    def owner(self, ledger: Ledger, api_key: str | None) -> str:
        """Return whose API key this is.

        Raises:
            RefusalError: 401 with code ``API_KEY_INVALID``.
        """
        owner = credentials.owner_of_key(ledger.connection, hashed(api_key)) if api_key else None
        if owner is None:
            raise RefusalError(UNAUTHORIZED, "API_KEY_INVALID", "the API key is missing, unknown or revoked")
        return owner

    def new_consumer(self, owner: str) -> Consumer:
        """Return a consumer with a session channel of its own."""
        return Consumer(owner=owner, session_channel=session_channel(self._entropy.name()))

    def consumer_pair(self, ledger: Ledger, consumer: Consumer) -> Pair:
        """Return tokens with which a consumer submits tasks and listens to its session channel."""
        access = self._tokens.issue(Kind.CONSUMER, consumer.owner, consumer_fields(consumer), self._lives.access)
        session = consumer.session_channel or ""
        user_id = session.partition(".")[2]
        grant = self._grant(user_id, session)
        return self._pair(ledger, Kind.CONSUMER, consumer_fields(consumer), access, grant)

    def instance_pair(self, ledger: Ledger, holder: Holder) -> Pair:
        """Return tokens with which an instance works and listens to its control channel."""
        access = self._tokens.issue(Kind.INSTANCE, holder.agent_id, holder_fields(holder), self._lives.access)
        grant = self._grant(holder.instance_id, control_channel(holder.agent_id))
        return self._pair(ledger, Kind.INSTANCE, holder_fields(holder), access, grant)

    def renewed(self, ledger: Ledger, owner: str, refresh_token: str) -> Pair | None:
        """Return the next pair for a refresh token; None when the token is not good any more.

        Nothing is raised here for a used token: that it was used stays written.
        """
        row = credentials.use_refresh(ledger.connection, hashed(refresh_token), self._steady.now_ms())
        if row is None or row.subject["owner"] != owner:
            return None
        if not row.fresh:
            _logger.warning("refresh_token_repeated", extra={"kind": row.kind})
            return None
        if row.kind == Kind.CONSUMER.value:
            return self.consumer_pair(ledger, consumer_of(row.subject))
        return self.instance_pair(ledger, holder_of(row.subject))

    def task_grant(self, channel: str) -> str:
        """Return a grant to read one task's channel, for any user of the network."""
        return self._mint(None, read=[channel], write=[])

    @property
    def grant_minutes(self) -> int:
        """Minutes that a channel grant lives."""
        return self._lives.grant_minutes

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
        return Pair(access, refresh, self._lives.access, grant, self._lives.grant_minutes * _MINUTE)

    def _grant(self, user_id: str, channel: str) -> str:
        """Return a grant to hear one channel, and to wake one's own poll."""
        wake = wake_channel(user_id)
        return self._mint(user_id, read=[channel, wake], write=[wake])

    def _mint(self, user_id: str | None, *, read: list[str], write: list[str]) -> str:
        return mint(
            self._access_secret,
            user_id=user_id,
            read=read,
            write=write,
            ttl_minutes=self._lives.grant_minutes,
            now_s=self._steady.now_ms() // 1000,
        )
