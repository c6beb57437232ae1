"""Logins: what turns an API key into tokens for the hub and a grant for the network."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.keeper import TokenKeeper, TokenPair
from blocks_worker.controlplane.refusals import fatal_told
from blocks_worker.errors import AuthRefreshFailedError, HubUnavailableError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.controlplane.entrances import Entered, Entrance
    from blocks_worker.controlplane.http import Http
    from blocks_worker.protocol.leases import ConnectAnswer, ConnectRequest, LateReport, ReportAnswer

#: The first status that blames the server: it is repeated anyhow.
_SERVER_ERROR = 500


class InstanceLogin:
    """Log one instance in: its tokens for the hub, its grant for the network, its incarnation.

    `is_hub` looks whether our hub is where we ask: once it knew us, what somebody else refuses there tells nothing.
    `cure` is what to do when the hub does not take the key.
    """

    def __init__(
        self,
        *,
        http: Http,
        api_key: str,
        request: ConnectRequest,
        clock: Clock,
        entropy: Entropy,
        is_hub: Callable[[], bool] = lambda: True,
        cure: str = "",
    ) -> None:
        self._cure = cure
        self._door = HubApi(http)
        self._api_key = api_key
        self._request = request
        self._entropy = entropy
        self._is_hub = is_hub
        self._known = False
        self._http = http
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
            HubUnavailableError: nothing answered, or another than our hub refused.
        """
        asked = self._http.base_url
        with fatal_told(self._cure):
            try:
                answer = self._door.connect(self._api_key, self._request)
            except RpcError as error:
                if self._known and error.status < _SERVER_ERROR and not self._has_refused(asked):
                    raise HubUnavailableError(asked, "what answers there is not our hub") from error
                raise
        self._known = True
        self._keeper.use(TokenPair.of(answer))
        return answer

    def _has_refused(self, asked: str) -> bool:
        """Tell whether our hub was asked, and is where it was: somebody else may have seen it move meanwhile."""
        return self._is_hub() and self._http.base_url == asked

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
        with fatal_told(self._cure):
            return TokenPair.of(self._door.connect(self._api_key, self._request))

    def _renew(self, refresh_token: str) -> TokenPair:
        with fatal_told(self._cure):
            return TokenPair.of(self._door.refresh(self._api_key, refresh_token))


class ConsumerLogin:
    """Log one consumer in: its tokens for the hub, its grant and its own channel on the network.

    The thread that renews is a daemon: a client that was forgotten keeps no process alive.
    """

    def __init__(
        self,
        *,
        http: Http,
        entrance: Entrance,
        clock: Clock,
        entropy: Entropy,
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._entrance = entrance
        self._entered: Entered | None = None
        self._connecting = threading.Lock()
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
    def is_in(self) -> bool:
        """Whether it ever got in."""
        return self._entered is not None

    @property
    def user_id(self) -> str:
        """Who the consumer is: the owner of its tasks."""
        return self._known().user_id

    @property
    def session_channel(self) -> str:
        """Where all tasks of this login speak; another one after a login that began anew."""
        return self._known().session_channel

    def connect(self) -> None:
        """Get tokens; one try. What a function of the user's raises comes through.

        Raises:
            AgentAuthFatalError: the key is refused for good.
            AuthRefreshFailedError: there are no credentials, or their endpoint gave no token.
            RpcError: the hub refused for another reason.
            HubUnavailableError: nothing answered.
        """
        self._keeper.use(self._acquire())

    def start(self) -> None:
        """Start to renew the tokens ahead of time."""
        self._keeper.start()

    @property
    def error(self) -> Exception | None:
        """Why the tokens could not be renewed for some time, if so."""
        return self._keeper.error()

    def ensure_ready(self) -> None:
        """Get in if not yet; raise what was recorded when renewing failed for some time and fails once more."""
        if self._keeper.is_empty():
            with self._connecting:
                if self._keeper.is_empty():
                    self.connect()
                    self.start()
        self._keeper.ensure_ready()

    def stop(self) -> None:
        """Ask the renewing to end, without waiting for it."""
        self._keeper.stop()

    def close(self, deadline: Deadline) -> None:
        """Stop renewing; the tokens stay readable."""
        self._keeper.close(deadline)
        self._entrance.close()

    def access_token(self) -> str:
        """Return the token for the hub."""
        return self._keeper.pair().access

    def on_unauthorized(self, refused: str) -> bool:
        """Renew because the hub refused this token.

        Raises:
            AuthRefreshFailedError: the user's token provider did not return in time.
        """
        is_new = self._keeper.replace(refused)
        if not is_new:
            self._keeper.check_in_time()
        return is_new

    def token(self) -> str | None:
        """Return the grant for the network."""
        return self._keeper.pair().grant

    def refresh(self, refused: str | None) -> bool:
        """Renew because the network refused this grant."""
        return self._keeper.replace(refused)

    def _known(self) -> Entered:
        if self._entered is None:
            raise AuthRefreshFailedError("not logged in yet")
        return self._entered

    def _acquire(self) -> TokenPair:
        self._entered = self._entrance.enter(self._entered)
        return self._entered.pair

    def _renew(self, _refresh_token: str) -> TokenPair:
        self._entered = self._entrance.renew(self._known())
        return self._entered.pair
