"""How an instance gets to its streams: a connection of their own, under one grant for all that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.controlplane.stream_grants import HubStreamGrants
from blocks_worker.errors import RpcError
from blocks_worker.streams.exchange import StreamExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.streams import GrantedStream, StreamName
    from blocks_worker.transports.base import Transport
    from blocks_worker.transports.opening import Transports
    from blocks_worker.transports.pubnub.settings import PubNubSettings


class InstanceStreams:
    """Open the exchange of one instance; `billing_mode` is known once it has connected."""

    def __init__(
        self,
        api: HubApi,
        *,
        settings: Callable[[str], PubNubSettings],
        transports: Transports,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.billing_mode = "free"
        self._api = api
        self._settings = settings
        self._transports = transports
        self._clock = clock
        self._entropy = entropy

    def open_exchange(self) -> StreamExchange:
        """Return a new exchange; its transport is opened with the first stream."""
        grants = HubStreamGrants(self._api, clock=self._clock)

        def open_transport() -> Transport:
            return self._transports.open(
                lambda: self._settings(self.billing_mode),
                grants=grants,
                producer=self._entropy.name(),
                wake_channel=grants.wake_channel,
            )

        return StreamExchange(
            open_transport=open_transport,
            grants=grants,
            clock=self._clock,
            carries_bytes=self._transports.carries_bytes,
        )

    def hand_out(self, name: StreamName) -> GrantedStream:
        """Return the tokens of one stream.

        Raises:
            RpcError, HubUnavailableError: the hub did not grant it.
        """
        granted = self._api.stream_grant([name]).streams[-1]
        if granted.refused is not None:
            raise RpcError(granted.message or granted.refused, code=granted.refused)
        return granted
