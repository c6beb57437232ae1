"""How a client gets to streams: one connection for all of them, opened with the first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blocks_worker.client.streams import StreamClient
from blocks_worker.protocol.streams import StreamName
from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.sides import make_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.client.streams import StreamDescriptor
    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.protocol.streams import GrantedStream
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.exchange import StreamExchange
    from blocks_worker.streams.options import WriterOptions


class ClientStreams:
    """Open streams for the sessions of one client."""

    def __init__(
        self,
        open_exchange: Callable[[], StreamExchange],
        *,
        options: WriterOptions,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._open_exchange = open_exchange
        self._options = options
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._exchange: StreamExchange | None = None

    def open(self, about: StreamDescriptor, patience: float | None) -> StreamClient:
        """Return the open stream.

        Raises:
            RpcError, HubUnavailableError: the hub did not grant it.
            RuntimeError: too many are open.
        """
        exchange = self._made()
        name = StreamName(task_id=about.task_id, stream_id=about.stream_id)
        made: list[StreamClient] = []

        def make(_granted: GrantedStream) -> Endpoint:
            endpoint = consumer_endpoint(
                about, exchange, self._options, patience=patience, clock=self._clock, entropy=self._entropy
            )
            # Before anything is read: whoever listens hears of everything.
            made.append(StreamClient.of(endpoint, call=exchange.callbacks.call, leave=exchange.leave))
            return endpoint

        exchange.open(name, make, position=about.position)
        return made[0]

    def stop(self) -> None:
        """Have everything end, without waiting for it."""
        if self._exchange is not None:
            self._exchange.stop()

    def close(self, deadline: Deadline) -> None:
        """End all streams and the connection."""
        if self._exchange is not None:
            self._exchange.close(deadline)

    def _made(self) -> StreamExchange:
        with self._lock:
            if self._exchange is None:
                self._exchange = self._open_exchange()
            return self._exchange


def consumer_endpoint(
    about: StreamDescriptor,
    exchange: StreamExchange,
    options: WriterOptions,
    *,
    patience: float | None,
    clock: Clock,
    entropy: Entropy,
) -> Endpoint:
    """Return the consumer's side of a stream."""
    return make_side(
        exchange,
        StreamIdentity(about.task_id, about.stream_id, about.channel),
        direction=about.local_direction,
        form=about.format,
        options=options,
        clock=clock,
        entropy=entropy,
        is_agent=False,
        only=about.writer,
        first=about.first,
        patience=patience,
    )
