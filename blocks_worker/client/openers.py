"""What opens the transports of one client: for its sessions, and for its streams.

Nothing here holds the client's machinery, which must be free to go when nobody needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.controlplane.stream_grants import HubStreamGrants
from blocks_worker.streams.exchange import StreamExchange
from blocks_worker.transports.pubnub.settings import PubNubSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.client.settings import Place
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.tokens import ConsumerLogin
    from blocks_worker.controlplane.whereabouts import Whereabouts
    from blocks_worker.transports.base import AtOnce, Transport
    from blocks_worker.transports.opening import Transports


def session_opener(
    where: Whereabouts[Place], transports: Transports, login: ConsumerLogin, entropy: Entropy
) -> Callable[[AtOnce], Transport]:
    """Return what opens the transport of the sessions, told who takes messages at once."""

    def open_transport(at_once: AtOnce) -> Transport:
        # The login's channel of now: another one has another transport.
        user_id = login.session_channel.partition(".")[2]
        return transports.open(
            lambda: _settings(where.now, user_id), grants=login, producer=entropy.name(), at_once=at_once
        )

    return open_transport


def exchange_opener(
    where: Whereabouts[Place], transports: Transports, login: ConsumerLogin, clock: Clock, entropy: Entropy
) -> Callable[[], StreamExchange]:
    """Return what makes the exchange for streams."""

    def open_exchange() -> StreamExchange:
        grants = HubStreamGrants(login.api, clock=clock)

        def open_transport() -> Transport:
            return transports.open(
                lambda: _settings(where.now, grants.user_id),
                grants=grants,
                producer=entropy.name(),
                wake_channel=grants.wake_channel,
            )

        return StreamExchange(
            open_transport=open_transport, grants=grants, clock=clock, carries_bytes=transports.carries_bytes
        )

    return open_exchange


def _settings(place: Place, user_id: str) -> PubNubSettings:
    return PubNubSettings(
        origin=place.origin,
        publish_key=place.keys.publish_key,
        subscribe_key=place.keys.subscribe_key,
        user_id=user_id,
        hold=place.network.hold,
        retention_limit=place.network.retention_limit,
        retention_age=place.network.retention_age,
    )
