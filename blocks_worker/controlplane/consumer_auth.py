"""A consumer's token by itself: got in one of three ways, and kept fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.keeper import TokenKeeper, TokenPair
from blocks_worker.controlplane.refusals import fatal_told
from blocks_worker.controlplane.sources import EndpointSource, FunctionSource
from blocks_worker.errors import AuthRefreshFailedError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from blocks_worker.controlplane.sources import TokenProvider, TokenResult, TokenSource

#: Seconds for the end of the renewing.
_CLOSING = 5.0


class ConsumerAuth:
    """Hold one access token, renewed at four fifths of its life and when it is refused; an `AuthProvider`.

    Args:
        api_key: traded at the hub, for which `base_url` is needed.
        token_endpoint: a URL or a `TokenEndpointConfig`.
        token_provider: returns a `TokenResult`, or a dict with ``token``, ``expiresIn``, ``userId``.
        base_url: the hub's address.
        on_auth_error: called with the exception once the token could not be renewed three times in a row.
        timeout: seconds of one request.

    Raises:
        ValueError: not exactly one of the three ways.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        token_endpoint: str | Mapping[str, Any] | None = None,
        token_provider: TokenProvider | None = None,
        base_url: str | None = None,
        on_auth_error: Callable[[Exception], None] | None = None,
        timeout: float = 30.0,
    ) -> None:
        given = one_mode(api_key=api_key, token_endpoint=token_endpoint, token_provider=token_provider)
        if given is None:
            raise ConfigurationError("give one of api_key, token_endpoint and token_provider")
        self._user_id: str | None = None
        self._source: TokenSource | None = source_of(token_endpoint, token_provider, timeout=timeout)
        self._http: Http | None = None
        if api_key is not None:
            if not base_url:
                raise ConfigurationError("an api_key is traded at the hub: give its address as base_url")
            self._http = Http(base_url, timeout=timeout)
        self._api_key = api_key or ""
        self._clock = Clock()
        self._keeper = TokenKeeper(
            acquire=self._acquire,
            renew=self._renew,
            clock=self._clock,
            entropy=Entropy(),
            on_auth_error=on_auth_error,
            daemon=True,
        )

    def init(self) -> None:
        """Get the first token, and start to renew it ahead of time; whatever went wrong comes through."""
        self._keeper.use(self._acquire())
        self._keeper.start()

    def ensure_ready(self) -> None:
        """Get in if not yet; raise what was recorded when renewing failed for some time and fails once more."""
        if self._keeper.is_empty():
            self.init()
        self._keeper.ensure_ready()

    def get_auth_header(self) -> str | None:
        """Return the header of the present token; None before the first one."""
        return None if self._keeper.is_empty() else f"Bearer {self._keeper.pair().access}"

    def get_user_id(self) -> str | None:
        """Return whom the token was given to, as far as somebody said."""
        return self._user_id

    def get_last_auth_error(self) -> Exception | None:
        """Return why the token could not be renewed for some time, if so."""
        return self._keeper.error()

    def on_auth_failure(self) -> bool:
        """Get another token because this one was refused; of callers who come together one asks, all get its answer."""
        return self._keeper.replace(None)

    def destroy(self) -> None:
        """Stop renewing; the token stays readable."""
        self._keeper.close(Deadline(_CLOSING, self._clock))
        if self._http is not None:
            self._http.close()
        if self._source is not None:
            self._source.close()

    def _acquire(self) -> TokenPair:
        if self._source is not None:
            return self._of(self._source.fetch())
        with fatal_told():
            answer = self._door().consumer_token(self._api_key)
        self._user_id = answer.user_id
        return TokenPair.of(answer)

    def _of(self, result: TokenResult) -> TokenPair:
        self._user_id = result.user_id or self._user_id
        return TokenPair(access=result.token, refresh="", grant="", life=result.expires_in)

    def _renew(self, refresh_token: str) -> TokenPair:
        with fatal_told():
            return TokenPair.of(self._door().refresh(self._api_key, refresh_token))

    def _door(self) -> HubApi:
        if self._http is None:
            raise AuthRefreshFailedError("there is no hub to ask")
        return HubApi(self._http)


def one_mode(**modes: object) -> str | None:
    """Return the name of the one way in that was given, or None.

    Raises:
        ConfigurationError: several were, or one is empty.
    """
    given = [name for name, value in modes.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)} are given: choose one of them")
    empty = [name for name in given if modes[name] == ""]
    if empty:
        raise ConfigurationError(f"{empty[0]} is empty")
    return given[0] if given else None


def source_of(
    token_endpoint: str | Mapping[str, Any] | None, token_provider: TokenProvider | None, *, timeout: float
) -> TokenSource | None:
    """Return where tokens come from; None when that is neither an endpoint nor a function."""
    if token_endpoint is not None:
        return EndpointSource(token_endpoint, timeout=timeout)
    return None if token_provider is None else FunctionSource(token_provider, timeout=timeout)
