"""One client object of the SDK behind plain calls: settings in, decoded replies or `CallFailedError` out."""

from __future__ import annotations

import contextlib
import logging
import urllib.parse
from typing import TYPE_CHECKING, Any

from pubnub.endpoints.pubsub.subscribe import Subscribe
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub
from pubnub.request_handlers.httpx import HttpxRequestHandler

from blocks_worker.errors import BlocksError, ConfigurationError
from blocks_worker.transports.pubnub.handler import LoopbackHandler
from blocks_worker.transports.pubnub.outcomes import CallFailedError, Kind, classify
from blocks_worker.transports.pubnub.settings import PubNubSettings
from blocks_worker.transports.replies import Event, read_position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.transports.base import Grants

_logger = logging.getLogger(__name__)

#: Whole seconds: the SDK refuses any other number.
CONNECT_TIMEOUT = 5
CALL_TIMEOUT = 10
#: Seconds that a poll may take beyond the time the network holds it.
POLL_GRACE = 10
#: Rows of a history page: the network's own limit.
PAGE_ROWS = 100
#: These print whole addresses, with the token in them, below this level.
FOREIGN_LOGGERS = ("pubnub", "httpx", "httpcore", "h2", "hpack", "urllib3")


def clamp_foreign_loggers() -> None:
    """Raise the loggers that would print addresses with tokens to WARNING at least."""
    for name in FOREIGN_LOGGERS:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def encoded(channel: str) -> str:
    """Return a channel name as the network spells it in its answers about history."""
    return urllib.parse.quote(channel, safe="~")


class NetworkClient:
    """Carry out calls with one SDK client; `polls` tells the one that only polls from the one that does the rest."""

    def __init__(self, settings: PubNubSettings, grants: Grants, *, polls: bool) -> None:
        clamp_foreign_loggers()
        scheme, host = settings.address
        #: Whether `stop` ends a request that is under way.
        self.interruptible = settings.asks_no_proxy
        handler = LoopbackHandler if self.interruptible else HttpxRequestHandler
        self._grants = grants
        self._sdk: Any = PubNub(_configuration(settings, scheme, host, polls=polls), custom_request_handler=handler)
        #: The token of the last request.
        self.token: str | None = None

    def poll(self, channels: Sequence[str], position: int, region: int) -> Any:
        """Return the decoded reply of one poll, whatever it is."""
        call = Subscribe(self._sdk).channels(list(channels)).timetoken(str(position))
        if region:
            call.region(region)
        return self._call(lambda: call.sync().result)

    def publish(self, channel: str, payload: dict[str, Any], *, store: bool = True) -> int:
        """Publish one payload and return its position."""
        call = self._sdk.publish().channel(channel).message(payload).use_post(True).should_store(store)
        envelope = self._call(call.sync)
        # A refusal may come with a status of success: the SDK does not look at its own mark of it.
        answer = getattr(envelope.status, "original_response", None)
        if not isinstance(answer, list) or not answer or answer[0] != 1:
            raise CallFailedError(Kind.REFUSED, f"not accepted: {answer!r}")
        return int(envelope.result.timetoken)

    def page(self, channel: str, since: int, until: int) -> list[Event]:
        """Return the newest rows of a channel after `since` up to and with `until`, at most a page, ascending."""
        # The upper bound leaves its position out, the lower one takes it in: a bad row just before the window
        # would spoil the page.
        call = self._sdk.fetch_messages().channels([channel]).start(until + 1).end(since + 1).count(PAGE_ROWS)
        found = self._call(lambda: call.sync().result.channels)
        rows = found.get(encoded(channel), found.get(channel, []))
        events = []
        for row in rows:
            position = read_position(row.timetoken)
            if position is None:
                raise CallFailedError(Kind.BAD_REPLY, "a row of history has no position")
            events.append(Event(channel, position, row.message))
        return sorted(events, key=lambda event: event.position)

    def count(self, channel: str, since: int) -> int:
        """Return how many rows the history of a channel has after `since`."""
        call = self._sdk.message_counts().channel([channel]).channel_timetokens([str(since)])
        found = self._call(lambda: call.sync().result.channels)
        number = found.get(encoded(channel), found.get(channel, 0)) if isinstance(found, dict) else None
        if not isinstance(number, int):
            raise CallFailedError(Kind.BAD_REPLY, "the count of a channel is no number")
        return number

    def time(self) -> int:
        """Return the network's present position."""
        position = read_position(self._call(lambda: self._sdk.time().sync().result.value_as_int))
        if position is None:
            raise CallFailedError(Kind.BAD_REPLY, "the time is no position")
        return position

    def current_token(self) -> str | None:
        """Return the token that the next request would have."""
        return self._grants.token()

    def renew(self) -> bool:
        """Get another token because the last one was refused; tell whether there is one."""
        try:
            return self._grants.refresh(self.token)
        except BlocksError as error:
            _logger.warning("token_not_renewed", extra={"why": type(error).__name__})
            return False

    def stop(self) -> None:
        """Let go of the SDK client; it is not used again."""
        # A client without a subscription manager raises a bare Exception here and is closed all the same.
        with contextlib.suppress(Exception):
            self._sdk.stop()

    def _call(self, act: Callable[[], Any]) -> Any:
        token = self._grants.token()
        if token != self.token:
            self.token = token
            self._sdk.set_token(token)
        try:
            return act()
        except CallFailedError:
            raise
        except Exception as error:
            raise classify(error) from error


def create_pubnub_client(
    *,
    subscribe_key: str,
    publish_key: str | None = None,
    user_id: str,
    origin: str | None = None,
    token: str | None = None,
) -> Any:
    """Return a client of the PubNub SDK, for code that speaks to the network by itself; end it with its `stop()`.

    Args:
        subscribe_key: of the network, as `publish_key`; without that one it only listens.
        publish_key: see `subscribe_key`.
        user_id: who it is there; a grant may be for one user only.
        origin: ``http://127.0.0.1:PORT`` or another address; a bare host means TLS; None: the hosted network.
        token: a grant for its channels.

    Raises:
        ValueError: a key or the user id is missing, or the origin is none.
    """
    if not subscribe_key:
        raise ConfigurationError("subscribe_key is empty")
    settings = PubNubSettings(
        origin=origin or PNConfiguration().origin,
        publish_key=publish_key or "",
        subscribe_key=subscribe_key,
        user_id=user_id,
    )
    client = plain_client(settings)
    if token is not None:
        client.set_token(token)
    return client


def plain_client(settings: PubNubSettings) -> Any:
    """Return a client of the SDK with all that it does by itself."""
    clamp_foreign_loggers()
    return PubNub(_configuration(settings, *settings.address, polls=True))


def given_settings(client: Any) -> PubNubSettings:
    """Return where a client of the SDK listens, and as whom.

    Raises:
        TypeError: it is no such client.
        ValueError: it has no subscribe key, or its origin is none of ours.
    """
    if not isinstance(client, PubNub):
        raise TypeError(f"expected a TaskClient or a client of the PubNub SDK, not {type(client).__name__}")
    config: Any = client.config
    if not config.subscribe_key:
        raise ConfigurationError("the PubNub client has no subscribe_key")
    return PubNubSettings(
        origin=f"{'https' if config.ssl else 'http'}://{config.origin}",
        publish_key=config.publish_key or "",
        subscribe_key=config.subscribe_key,
        user_id=config.user_id,
    )


def given_token(client: Any) -> str | None:
    """Return the token that a client of the SDK has now."""
    token: str | None = client._get_token()  # noqa: SLF001 - the SDK has no other way to ask
    return token


def stop_plain(client: Any) -> None:
    """Let go of such a client."""
    # One that never subscribed raises a bare Exception here and is closed all the same.
    with contextlib.suppress(Exception):
        client.stop()


def _configuration(settings: PubNubSettings, scheme: str, host: str, *, polls: bool) -> Any:
    """Return a fresh configuration: the SDK shares it by reference, so no two clients may have the same one."""
    config: Any = PNConfiguration()
    config.subscribe_key = settings.subscribe_key
    config.publish_key = settings.publish_key
    config.user_id = settings.user_id
    config.origin = host
    config.ssl = scheme == "https"
    config.daemon = True  # else a process with a poll under way does not exit before the network answers
    config.connect_timeout = CONNECT_TIMEOUT
    config.non_subscribe_request_timeout = CALL_TIMEOUT
    config.subscribe_request_timeout = int(settings.hold) + POLL_GRACE
    config.enable_subscribe = polls
    config.enable_presence_heartbeat = False
    config.suppress_leave_events = True
    config.disable_config_locking = False
    return config
