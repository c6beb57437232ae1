"""One side of a stream, wired to the exchange that carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.streams.endpoint import REORDER_TIMEOUT, Endpoint
from blocks_worker.streams.options import WriterOptions, over_link
from blocks_worker.streams.writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.streams import Direction, Format
    from blocks_worker.streams.exchange import StreamExchange
    from blocks_worker.streams.identity import StreamIdentity


def make_side(  # noqa: PLR0913 - where the halves of a stream meet
    exchange: StreamExchange,
    identity: StreamIdentity,
    *,
    direction: Direction,
    form: Format,
    options: WriterOptions,
    clock: Clock,
    entropy: Entropy,
    is_agent: bool,
    only: str | None = None,
    first: int | None = 0,
    patience: float | None = None,
    check: Callable[[Any], None] | None = None,
) -> Endpoint:
    """Return an endpoint with the halves that its direction, as this side sees it, asks for.

    The rest is as `Endpoint` has it; `patience` None is the usual one.
    """
    sender = entropy.name()
    writer = None
    if direction != "inbound":
        writer = StreamWriter(
            stream_id=identity.stream_id,
            sender=sender,
            form=form,
            options=over_link(options) if exchange.carries_bytes else options,
            kick=lambda: exchange.kick(endpoint),
            clock=clock,
            name=entropy.name,
        )
    endpoint = Endpoint(
        identity=identity,
        is_agent=is_agent,
        form=form,
        name=sender,
        clock=clock,
        kick=exchange.kick,
        writer=writer,
        reads=direction != "outbound",
        only=only,
        first=first,
        patience=REORDER_TIMEOUT if patience is None else patience,
        check=check,
    )
    return endpoint
