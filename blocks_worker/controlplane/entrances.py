"""How a consumer gets in: with an API key, with tokens that somebody else gives, or not at all.

A token that comes from elsewhere is traded for a session: an access token of the hub's own, the channel on which
all tasks of this client speak, and the grant for it. The channel stays the same from one token to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blocks_worker.controlplane.keeper import TokenPair
from blocks_worker.controlplane.refusals import fatal_told
from blocks_worker.errors import AuthRefreshFailedError, RpcError

if TYPE_CHECKING:
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.controlplane.providers import AuthProvider
    from blocks_worker.controlplane.sources import TokenSource

_UNAUTHORIZED = 401
_BEARER = "bearer "


@dataclass(frozen=True)
class Entered:
    """Be a consumer who is in: tokens, name and channel."""

    pair: TokenPair
    user_id: str
    session_channel: str


class Entrance(Protocol):
    """Let one consumer in, again and again."""

    def enter(self, last: Entered | None) -> Entered:
        """Get in; `last` is how it was before."""

    def renew(self, last: Entered) -> Entered:
        """Get another pair by the refresh token; only asked where the last pair has one."""

    def close(self) -> None:
        """Let go of connections."""


class KeyEntrance:
    """Get in with an API key; `cure` is what its owner is to do when the hub does not take it."""

    def __init__(self, door: HubApi, api_key: str, *, cure: str = "") -> None:
        self._door = door
        self._api_key = api_key
        self._cure = cure

    def enter(self, last: Entered | None) -> Entered:
        """Trade the key for tokens and a channel of its own."""
        del last
        with fatal_told(self._cure):
            answer = self._door.consumer_token(self._api_key)
        return Entered(TokenPair.of(answer), answer.user_id, answer.session_channel)

    def renew(self, last: Entered) -> Entered:
        """Trade the refresh token; name and channel stay."""
        with fatal_told(self._cure):
            pair = TokenPair.of(self._door.refresh(self._api_key, last.pair.refresh))
        return Entered(pair, last.user_id, last.session_channel)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class SourceEntrance:
    """Get in with tokens of an endpoint or a function."""

    def __init__(self, door: HubApi, source: TokenSource) -> None:
        self._door = door
        self._source = source
        self._user_id: str | None = None

    def enter(self, last: Entered | None) -> Entered:
        """Ask for a token and trade it; whom the source names wins over whom the hub takes us for."""
        result = self._source.fetch()
        self._user_id = result.user_id or self._user_id
        return traded(self._door, result.token, last, life=result.expires_in, user_id=self._user_id)

    def renew(self, last: Entered) -> Entered:
        """Ask for a token again."""
        return self.enter(last)

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()


class ProviderEntrance:
    """Get in with the header of a provider, and tell it when the hub refused that."""

    def __init__(self, door: HubApi, provider: AuthProvider) -> None:
        self._door = door
        self._provider = provider

    def enter(self, last: Entered | None) -> Entered:
        """Trade the token of the provider's header; one that is refused is replaced once."""
        ensure_ready = getattr(self._provider, "ensure_ready", None)
        if callable(ensure_ready):
            ensure_ready()
        try:
            return traded(self._door, self._token(), last)
        except RpcError as error:
            if error.status != _UNAUTHORIZED or not self._provider.on_auth_failure():
                raise
        return traded(self._door, self._token(), last)

    def renew(self, last: Entered) -> Entered:
        """Trade the token of now."""
        return self.enter(last)

    def close(self) -> None:
        """Do nothing: the provider is the user's."""

    def _token(self) -> str:
        header = self._provider.get_auth_header()
        if header is None or header[: len(_BEARER)].lower() != _BEARER:
            raise AuthRefreshFailedError("the auth provider gave no header 'Bearer …'")
        return header[len(_BEARER) :].strip()


class NoEntrance:
    """Stay outside: only what everybody may read can be read."""

    def enter(self, last: Entered | None) -> Entered:
        """Say what is missing."""
        del last
        raise AuthRefreshFailedError(
            "this client has no credentials: give api_key, token_endpoint or token_provider, or set BLOCKS_API_KEY"
        )

    def renew(self, last: Entered) -> Entered:
        """Say what is missing."""
        return self.enter(last)

    def close(self) -> None:
        """Do nothing."""


def traded(
    door: HubApi, token: str, last: Entered | None, *, life: float | None = None, user_id: str | None = None
) -> Entered:
    """Trade an access token for a session; it is renewed by the shortest of all lives."""
    answer = door.session(token, None if last is None else last.pair.access)
    lives = [answer.expires_in, answer.pam_expires_in, *([] if life is None else [life])]
    pair = TokenPair(access=answer.access_token, refresh="", grant=answer.pam_token, life=min(lives))
    return Entered(pair, user_id or answer.user_id, answer.session_channel)
