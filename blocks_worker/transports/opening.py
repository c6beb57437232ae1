"""Which transport a process uses: over PubNub, or over a link to its hub; all else is told neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocks_worker.config import bypass_proxy_on_loopback, is_loopback_url
from blocks_worker.transports.moving import MovingTransport, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.transports.base import AtOnce, Grants, Transport
    from blocks_worker.transports.hublink.link import Bearing, Link
    from blocks_worker.transports.pubnub.settings import PubNubSettings

#: The word for the link, as it stands in the CDM document and in the environment.
HUBLINK = "hublink"


class Place(Protocol):
    """Say where the hub is, and by what it speaks."""

    @property
    def hub_url(self) -> str:
        """The hub's base address."""

    @property
    def transport(self) -> str:
        """``pubnub`` or ``hublink``."""


class Whereabouts(Route, Protocol):
    """Know the place of now."""

    @property
    def now(self) -> Place:
        """The place as far as it is known."""


def open_link(where: Whereabouts, bearing: Bearing, *, clock: Clock, entropy: Entropy) -> Link | None:
    """Return the link of a process to its hub, which connects when it is first needed; None where PubNub is used."""
    if where.now.transport != HUBLINK:
        return None
    # Who speaks over PubNub does without the library, and the other way round: each is megabytes.
    from blocks_worker.transports.hublink.link import Link

    link = Link(
        hub_url=lambda: where.now.hub_url,
        bearing=bearing,
        near=is_loopback_url(where.now.hub_url),
        clock=clock,
        entropy=entropy,
        doubt=where.ask,
    )
    where.follow(link.renew)
    return link


class Transports:
    """Open the transports of one process.

    Args:
        route: where the network is, and who tells when it moved.
        link: what they go over; None: PubNub.
        clock: the time.
        entropy: jitter.
    """

    def __init__(self, route: Route, link: Link | None, *, clock: Clock, entropy: Entropy) -> None:
        self._route = route
        self._link = link
        self._clock = clock
        self._entropy = entropy

    @property
    def carries_bytes(self) -> bool:
        """Whether they take frames of bytes as they are; else all has to be JSON."""
        return self._link is not None

    def open(
        self,
        aim: Callable[[], PubNubSettings],
        *,
        grants: Grants,
        producer: str,
        wake_channel: str | None = None,
        counters: dict[str, int] | None = None,
        at_once: AtOnce | None = None,
    ) -> Transport:
        """Open a transport for somebody; `aim` tells who that is, on which network, `counters` are counted on.

        `at_once` gets the messages in place of `receive` where they come over the link.
        """
        if self._link is not None:
            from blocks_worker.transports.hublink.transport import HubLinkTransport

            return HubLinkTransport(
                self._link,
                aim,
                grants=grants,
                producer=producer,
                clock=self._clock,
                entropy=self._entropy,
                counters=counters,
                at_once=at_once,
            )

        from blocks_worker.transports.pubnub.transport import PubNubTransport

        def open_at(settings: PubNubSettings) -> Transport:
            if settings.is_loopback and not settings.asks_no_proxy:
                bypass_proxy_on_loopback()
            return PubNubTransport(
                settings,
                grants=grants,
                producer=producer,
                wake_channel=wake_channel,
                clock=self._clock,
                entropy=self._entropy,
                counters=counters,
            )

        return MovingTransport(route=self._route, aim=aim, open_transport=open_at, clock=self._clock)
