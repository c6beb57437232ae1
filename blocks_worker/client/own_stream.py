"""A stream by its token alone: a connection of its own, for a process that knows neither the task nor the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from blocks_worker.concurrency import Deadline
from blocks_worker.config import bypass_proxy_on_loopback
from blocks_worker.controlplane.cdm import HOSTED_ORIGIN
from blocks_worker.errors import ConfigurationError, PublishRefusedError
from blocks_worker.protocol.channels import held_wake_channel
from blocks_worker.protocol.streams import GrantedStream, StreamName
from blocks_worker.streams.exchange import POSITION_TIMEOUT, StreamExchange
from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.sides import make_side
from blocks_worker.transports.pubnub.settings import PubNubSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.streams import Direction, Format
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.options import WriterOptions
    from blocks_worker.transports.pubnub.transport import PubNubTransport

#: Whose place is taken: the agent speaks on the stream's channel, the consumer reads it.
Side = Literal["agent", "consumer"]
#: Where the token of a side is found.
_SOURCES: Mapping[Side, str] = {"agent": "ExternalStreamObject.token", "consumer": "StreamRef.descriptor.token"}


@dataclass(frozen=True, kw_only=True)
class OwnStream:
    """Say which stream, how it is reached, and what is done with it.

    Attributes:
        direction: as this side sees it.
        origin: the network's address; None: the hosted one.
        user_id: who this is on the network; None: somebody new.
        writer: take frames of this writer alone; `first` is the number of its first frame.
        position: the network's position to read from.
        patience: seconds that a missing frame is waited for.
    """

    stream_id: str
    channel: str
    token: str | None
    subscribe_key: str
    publish_key: str
    origin: str | None
    user_id: str | None
    side: Side
    direction: Direction
    format: Format
    options: WriterOptions
    writer: str | None = None
    first: int = 0
    position: int | None = None
    patience: float | None = None


class HeldToken:
    """Be the right to one stream that was handed over as a token: it cannot be renewed, and covers nothing else."""

    def __init__(self, token: str | None, channel: str) -> None:
        self._token = token
        self._channel = channel

    def token(self) -> str | None:
        """Return the token."""
        return self._token

    def refresh(self, refused: str | None) -> bool:
        """Tell that there is no other."""
        return self._token != refused

    def want(self, new: StreamName) -> GrantedStream:
        """Return the one stream."""
        return GrantedStream(task_id=new.task_id, stream_id=new.stream_id, channel=self._channel)

    def drop(self, task_id: str, stream_id: str) -> None:
        """Do nothing: the token is for one stream."""

    def rename(self, stream_id: str, old: str, new: str) -> None:
        """Do nothing: the token is for one stream."""


def open_alone(
    own: OwnStream, begin: Callable[[Endpoint, StreamExchange], None], *, clock: Clock, entropy: Entropy
) -> None:
    """Open the stream on a connection of its own, which ends with it.

    `begin` is called before anything is read or sent: whoever listens from then on hears of everything.

    Raises:
        TransportError: the network does not answer.
        ConfigurationError: the origin or the user id cannot be used, or the network refuses the token or the keys.
    """
    held = HeldToken(own.token, own.channel)
    identity = StreamIdentity(own.stream_id, own.stream_id, own.channel)
    settings = PubNubSettings(
        origin=own.origin or HOSTED_ORIGIN,
        publish_key=own.publish_key,
        subscribe_key=own.subscribe_key,
        user_id=own.user_id or entropy.name(),
    )
    if settings.is_loopback:
        bypass_proxy_on_loopback()
    read_channel = identity.up if own.side == "agent" else identity.channel

    # Not before such a stream is opened: whoever speaks to a hub over its link needs no SDK.
    from blocks_worker.transports.pubnub.transport import PubNubTransport

    transport = PubNubTransport(
        settings,
        grants=held,
        producer=entropy.name(),
        wake_channel=held_wake_channel(read_channel),
        clock=clock,
        entropy=entropy,
    )
    try:
        _check_admitted(transport, own, read_channel, Deadline(POSITION_TIMEOUT, clock))
    except BaseException:
        transport.close(Deadline(0.0, clock))
        raise
    exchange = StreamExchange(open_transport=lambda: transport, grants=held, clock=clock, is_alone=True)
    name = StreamName(task_id=own.stream_id, stream_id=own.stream_id)

    def make(_granted: GrantedStream) -> Endpoint:
        endpoint = make_side(
            exchange,
            identity,
            direction=own.direction,
            form=own.format,
            options=own.options,
            clock=clock,
            entropy=entropy,
            is_agent=own.side == "agent",
            only=own.writer,
            first=own.first,
            patience=own.patience,
        )
        begin(endpoint, exchange)
        return endpoint

    exchange.open(name, make, position=own.position)


def _check_admitted(transport: PubNubTransport, own: OwnStream, read_channel: str, deadline: Deadline) -> None:
    """Ask once whether this side may be taken: without it, the stream would be open and deaf."""
    try:
        transport.check_readable([read_channel], deadline)
    except PublishRefusedError as error:
        raise ConfigurationError(
            f"the network refuses the {own.side}'s side of the stream {own.stream_id} ({error.__cause__}); a token is "
            f"for one stream and one side, and ends with its task and with the API key it came from: take a new one "
            f"from {_SOURCES[own.side]}, with the keys and the origin of fetch_cdm_config()"
        ) from error
