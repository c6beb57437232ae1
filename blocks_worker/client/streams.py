"""Streams as a consumer has them: what is announced of one, the reference to open it, the open stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocks_worker.client.own_stream import OwnStream, open_alone
from blocks_worker.client.stream_arguments import check_arguments
from blocks_worker.concurrency import Clock, Deadline, Entropy, ServiceThread
from blocks_worker.config import FRAME_BYTES, stream_config
from blocks_worker.errors import ConfigurationError, InvalidMessageError
from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.streams import Announced, down_channel, invert_direction
from blocks_worker.streams.live import LiveStream
from blocks_worker.streams.options import WriterOptions, writer_options

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from typing_extensions import Self

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.own_stream import Side
    from blocks_worker.client.session_streams import SessionStreams
    from blocks_worker.protocol.streams import Affinity, Direction, Format
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.exchange import StreamExchange

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamDescriptor:
    """Say what a stream is, and where.

    Attributes:
        channel: where the agent speaks.
        token: lets its bearer use this one stream, for a while.
        agent_direction, local_direction: as the agent sees it, and as the consumer does.
        format: ``bytes`` or ``events``.
        affinity: ``dedicated``: the task's own; ``shared``: the agent's process has it for many tasks.
        declared_stream: its name in the agent's card.
        position: the network's position before the first frame.
        writer: the agent's writer, if it writes; `first` is the number of its first frame for this task.
    """

    task_id: str
    stream_id: str
    agent_name: str
    channel: str
    token: str | None = field(repr=False)
    agent_direction: Direction
    local_direction: Direction
    format: Format
    affinity: Affinity
    metadata: dict[str, Any]
    declared_stream: str | None = None
    position: int = 0
    writer: str | None = None
    first: int = 0


def descriptors_of(event: TaskEvent) -> list[StreamDescriptor]:
    """Return the streams that an event announces; one that cannot be read is left out with a warning."""
    found = []
    for stream_id, said in (event.streams or {}).items():
        try:
            found.append(_descriptor(event, stream_id, convert(Announced, said)))
        except (InvalidMessageError, ValueError) as error:
            fields = {"task": event.task_id, "stream": stream_id, "why": str(error)}
            _logger.warning("stream_announcement_refused", extra=fields)
    return found


def _descriptor(event: TaskEvent, stream_id: str, said: Announced) -> StreamDescriptor:
    return StreamDescriptor(
        task_id=event.task_id,
        stream_id=stream_id,
        agent_name=said.channel.removeprefix("stream.").partition(".")[0],
        channel=said.channel,
        token=said.token,
        agent_direction=said.direction,
        local_direction=invert_direction(said.direction),
        format=said.format,
        affinity=said.affinity,
        metadata=said.metadata,
        declared_stream=event.declared_stream,
        position=int(said.position),
        writer=said.writer,
        first=said.first,
    )


class StreamRef:
    """A stream of a task that was announced; it costs nothing until it is opened."""

    def __init__(self, descriptor: StreamDescriptor, streams: SessionStreams) -> None:
        self.descriptor = descriptor
        self._streams = streams

    @property
    def is_open(self) -> bool:
        """Tell whether it was opened here and has not ended."""
        client = self._streams.opened(self)
        return client is not None and client.is_active

    def open(self, *, reorder_timeout_ms: int | None = None) -> StreamClient:
        """Return the open stream; while it lives every call returns the same one.

        Args:
            reorder_timeout_ms: how long a missing piece is waited for; 0 takes all as it comes.

        Raises:
            StreamUnavailableError: the task is over, as was told here, and it was never opened.
            RuntimeError: it has ended.
            RpcError, HubUnavailableError: the hub did not grant it.
        """
        return self._streams.open(self, reorder_timeout_ms)

    def __repr__(self) -> str:
        about = self.descriptor
        name = about.declared_stream or about.stream_id
        return f"<StreamRef {name} {about.local_direction} {about.format}>"


class StreamClient(LiveStream):
    """An open stream on the consumer's side; `with client:` ends it."""

    def __init__(  # noqa: PLR0913 - the names which users know
        self,
        *,
        subscribe_key: str,
        publish_key: str,
        token: str | None,
        agent_name: str,
        stream_id: str,
        channel: str | None = None,
        format: Format = "bytes",  # noqa: A002 - the name which users know
        direction: Direction = "outbound",
        affinity: Affinity = "dedicated",
        max_message_size: int | None = None,
        bundle_size_bytes: int | None = None,
        max_latency_ms: int | None = None,
        gating: bool | None = None,
        reorder_timeout_ms: int | None = None,
        consumer_user_id: str | None = None,
        origin: str | None = None,
        side: Side | None = None,
    ) -> None:
        """Open a stream by its token, on a connection of its own which ends with it.

        Args:
            subscribe_key: of the network, as `publish_key`.
            publish_key: see `subscribe_key`.
            token: lets its bearer on one side of this stream: `ExternalStreamObject.token`, `StreamDescriptor.token`.
            agent_name: whose stream it is.
            stream_id: the stream's id.
            channel: where the agent speaks; None: as the names say.
            format: ``bytes`` or ``events``.
            direction: as this side sees it.
            affinity: ``shared``: many tasks have it, so that an end is not told.
            max_message_size: most bytes of a frame as it travels.
            bundle_size_bytes: a frame with as many bytes takes nothing more.
            max_latency_ms: without effect: what is there goes at once.
            gating: without effect: readers that are there always slow a writer.
            reorder_timeout_ms: how long a missing piece is waited for; 0 takes all as it comes.
            consumer_user_id: who this is on the network; None: somebody new.
            origin: the network's address; None: the hosted one.
            side: ``agent`` or ``consumer``: whose token it is; None: the agent's, without a `consumer_user_id`.

        Raises:
            TransportError: the network does not answer.
            ValueError: an argument cannot be used, or the network refuses the token; the sentence says what to do.
        """
        check_arguments(locals())
        self._open_own(
            OwnStream(
                stream_id=stream_id,
                channel=channel or down_channel(agent_name, stream_id),
                token=token,
                subscribe_key=subscribe_key,
                publish_key=publish_key,
                origin=origin,
                user_id=consumer_user_id,
                side=side or ("agent" if consumer_user_id is None else "consumer"),
                direction=direction,
                format=format,
                options=_options(max_message_size, bundle_size_bytes, ends=affinity == "dedicated"),
                patience=None if reorder_timeout_ms is None else max(0, reorder_timeout_ms) / 1000,
            )
        )

    @classmethod
    def from_descriptor(  # noqa: PLR0913 - the names which users know
        cls,
        descriptor: StreamDescriptor,
        *,
        subscribe_key: str,
        publish_key: str,
        token: str | None = None,
        max_message_size: int | None = None,
        bundle_size_bytes: int | None = None,
        max_latency_ms: int | None = None,
        gating: bool | None = None,
        reorder_timeout_ms: int | None = None,
        consumer_user_id: str | None = None,
        origin: str | None = None,
    ) -> Self:
        """Open the consumer's side of a stream as it was announced, with its token, on a connection of its own.

        The arguments are those of the constructor.

        Raises:
            TransportError: the network does not answer.
            ValueError: as of the constructor; also what is no descriptor.
        """
        check_arguments(locals())
        given: Any = descriptor
        if not isinstance(given, StreamDescriptor):
            kind = type(given).__name__
            raise ConfigurationError(f"descriptor is a StreamDescriptor, not {kind}; take it from StreamRef.descriptor")
        check_arguments({**vars(descriptor), "direction": descriptor.local_direction})
        made = cls.__new__(cls)
        made._open_own(  # noqa: SLF001 - it is made here
            OwnStream(
                stream_id=descriptor.stream_id,
                channel=descriptor.channel,
                token=token or descriptor.token,
                subscribe_key=subscribe_key,
                publish_key=publish_key,
                origin=origin,
                user_id=consumer_user_id,
                side="consumer",
                direction=descriptor.local_direction,
                format=descriptor.format,
                options=_options(max_message_size, bundle_size_bytes, ends=descriptor.affinity == "dedicated"),
                writer=descriptor.writer,
                first=descriptor.first,
                position=descriptor.position,
                patience=None if reorder_timeout_ms is None else max(0, reorder_timeout_ms) / 1000,
            )
        )
        return made

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        *,
        call: Callable[[Callable[[], None]], None],
        leave: Callable[[Endpoint], None],
    ) -> Self:
        """Return the stream of an endpoint that is there."""
        made = cls.__new__(cls)
        LiveStream.__init__(made, endpoint, call=call, leave=leave)
        return made

    def _open_own(self, own: OwnStream) -> None:
        def begin(endpoint: Endpoint, exchange: StreamExchange) -> None:
            LiveStream.__init__(self, endpoint, call=exchange.callbacks.call, leave=exchange.leave)

        open_alone(own, begin, clock=Clock(), entropy=Entropy())

    def __enter__(self) -> Self:
        return self

    def consume_in_background(self, callback: Callable[[Any], Any]) -> None:
        """Call this with each chunk or event on a thread of its own; what it raises goes to `on_error`."""
        items = self.bytes() if self.is_bytes else self.events()

        def run() -> None:
            for item in items:
                try:
                    callback(item)
                except BaseException as error:  # noqa: BLE001 - the callback is the user's: the next item is told too
                    self.report("other", f"{type(error).__name__}: {error}")

        ServiceThread(f"stream-consumer-{self.stream_id}", run, daemon=True).start()

    def write_periodic(
        self,
        interval_sec: float,
        generator: Callable[[int], Any],
        stop_event: threading.Event | None = None,
    ) -> None:
        """Write what `generator(count)` returns, count from 1, on a thread of its own, until the stream ends."""
        ended = self.ended_event()
        clock = Clock()

        def run() -> None:
            count = 0
            try:
                while self.is_active and not (stop_event is not None and stop_event.is_set()):
                    count += 1
                    self.write(generator(count))
                    _pause(clock, interval_sec, ended, stop_event)
            except BaseException as error:  # noqa: BLE001 - the generator is the user's
                if self.is_active:
                    self.report("other", f"{type(error).__name__}: {error}")

        ServiceThread(f"stream-writer-{self.stream_id}", run, daemon=True).start()


def _options(max_message_size: int | None, bundle_size_bytes: int | None, *, ends: bool) -> WriterOptions:
    """Return how a stream is cut: as told, else as the surroundings say."""
    usual = writer_options(stream_config())
    frame = usual.frame_bytes if max_message_size is None else max_message_size
    least, most = FRAME_BYTES
    if not least <= frame <= most:
        raise ConfigurationError(f"max_message_size={frame} is not within {least} and {most}")
    return WriterOptions(frame_bytes=frame, bundle_bytes=bundle_size_bytes or usual.bundle_bytes, ends=ends)


def _pause(clock: Clock, seconds: float, ended: threading.Event, stop: threading.Event | None) -> None:
    """Wait until the time is over or one of the two is set."""
    if stop is None:
        clock.wait(ended, seconds)
        return
    deadline = Deadline(seconds, clock)
    while not deadline.expired() and not ended.is_set():
        if clock.wait(stop, deadline.within(0.25)):
            return
