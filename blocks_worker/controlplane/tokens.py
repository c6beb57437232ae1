"""Logins: what turns an API key into tokens for the hub and a grant for the network."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.keeper import TokenKeeper, TokenPair
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.controlplane.http import Http
    from blocks_worker.protocol.leases import ConnectAnswer, ConnectRequest, ConsumerToken, LateReport, ReportAnswer

#: Words by which the hub says that a key is refused for good.
FATAL_CODES = frozenset({"API_KEY_INVALID", "AGENT_FORCED_OFFLINE"})


@contextmanager
def _fatal_told() -> Iterator[None]:
    """Turn a refusal that no repeating will change into `AgentAuthFatalError`."""
    try:
        yield
    except RpcError as error:
        if error.code in FATAL_CODES:
            raise AgentAuthFatalError(error.rpc_message, code=error.code) from error
        raise


class InstanceLogin:
    """Log one instance in: its tokens for the hub, its grant for the network, its incarnation."""

    def __init__(self, *, http: Http, api_key: str, request: ConnectRequest, clock: Clock, entropy: Entropy) -> None:
        self._door = HubApi(http)
        self._api_key = api_key
        self._request = request
        self._entropy = entropy
        self.api = HubApi(http, self)
        self._keeper = TokenKeeper(acquire=self._acquire, renew=self._renew, clock=clock, entropy=entropy)

    @property
    def incarnation(self) -> str:
        """Name of this process life."""
        return self._request.incarnation

    @property
    def error(self) -> Exception | None:
        """Why the tokens could not be renewed for some time, if so."""
        return self._keeper.error()

    def renew_incarnation(self) -> None:
        """Be a new process life from the next `connect` on."""
        self._request = msgspec.structs.replace(self._request, incarnation=self._entropy.name())

    def connect(self) -> ConnectAnswer:
        """Register with the hub; one try.

        Raises:
            AgentAuthFatalError: the key is refused for good.
            RpcError: the hub refused for another reason.
            HubUnavailableError: nothing answered.
        """
        with _fatal_told():
            answer = self._door.connect(self._api_key, self._request)
        self._keeper.use(TokenPair.of(answer))
        return answer

    def report_late(self, items: Sequence[LateReport], *, timeout: float) -> list[ItemResult[ReportAnswer]]:
        """Say what processes of this key that died had to say; needs no connect.

        Raises:
            RpcError: the hub refused the whole.
            HubUnavailableError: nothing answered.
        """
        return self._door.late_reports(self._api_key, items, timeout=timeout)

    def start(self) -> None:
        """Start to renew the tokens ahead of time."""
        self._keeper.start()

    def close(self, deadline: Deadline) -> None:
        """Stop renewing."""
        self._keeper.close(deadline)

    def access_token(self) -> str:
        """Return the token for the hub."""
        return self._keeper.pair().access

    def on_unauthorized(self, refused: str) -> bool:
        """Renew because the hub refused this token."""
        return self._keeper.replace(refused)

    def token(self) -> str | None:
        """Return the grant for the network."""
        return self._keeper.pair().grant

    def refresh(self, refused: str | None) -> bool:
        """Renew because the network refused this grant."""
        return self._keeper.replace(refused)

    def _acquire(self) -> TokenPair:
        with _fatal_told():
            return TokenPair.of(self._door.connect(self._api_key, self._request))

    def _renew(self, refresh_token: str) -> TokenPair:
        with _fatal_told():
            return TokenPair.of(self._door.refresh(self._api_key, refresh_token))


class ConsumerLogin:
    """Log one consumer in: its tokens for the hub, its grant and its own channel on the network.

    The thread that renews is a daemon: a client that was forgotten keeps no process alive.
    """

    def __init__(
        self,
        *,
        http: Http,
        api_key: str,
        clock: Clock,
        entropy: Entropy,
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._door = HubApi(http)
        self._api_key = api_key
        self._consumer: ConsumerToken | None = None
        self.api = HubApi(http, self)
        self._keeper = TokenKeeper(
            acquire=self._acquire,
            renew=self._renew,
            clock=clock,
            entropy=entropy,
            on_auth_error=on_auth_error,
            daemon=True,
        )

    @property
    def user_id(self) -> str:
        """Who the consumer is: the owner of its tasks."""
        return self._known().user_id

    @property
    def session_channel(self) -> str:
        """Where all tasks of this login speak; another one after a login that began anew."""
        return self._known().session_channel

    def connect(self) -> None:
        """Get the first tokens; one try.

        Raises:
            AgentAuthFatalError: the key is refused for good.
            RpcError: the hub refused for another reason.
            HubUnavailableError: nothing answered.
        """
        self._keeper.use(self._acquire())

    def start(self) -> None:
        """Start to renew the tokens ahead of time."""
        self._keeper.start()

    def ensure_ready(self) -> None:
        """Raise what was recorded when renewing failed for some time and fails once more."""
        self._keeper.ensure_ready()

    def stop(self) -> None:
        """Ask the renewing to end, without waiting for it."""
        self._keeper.stop()

    def close(self, deadline: Deadline) -> None:
        """Stop renewing; the tokens stay readable."""
        self._keeper.close(deadline)

    def access_token(self) -> str:
        """Return the token for the hub."""
        return self._keeper.pair().access

    def on_unauthorized(self, refused: str) -> bool:
        """Renew because the hub refused this token."""
        return self._keeper.replace(refused)

    def token(self) -> str | None:
        """Return the grant for the network."""
        return self._keeper.pair().grant

    def refresh(self, refused: str | None) -> bool:
        """Renew because the network refused this grant."""
        return self._keeper.replace(refused)

    def _known(self) -> ConsumerToken:
        if self._consumer is None:
            raise AuthRefreshFailedError("not logged in yet")
        return self._consumer

    def _acquire(self) -> TokenPair:
        with _fatal_told():
            self._consumer = self._door.consumer_token(self._api_key)
        return TokenPair.of(self._consumer)

    def _renew(self, refresh_token: str) -> TokenPair:
        with _fatal_told():
            return TokenPair.of(self._door.refresh(self._api_key, refresh_token))
