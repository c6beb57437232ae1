"""Two sides of a stream without a hub: exchanges on a network of choice, endpoints, grants for everything."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.protocol.streams import GrantedStream, StreamName
from blocks_worker.streams.endpoint import REORDER_TIMEOUT, Endpoint
from blocks_worker.streams.exchange import StreamExchange
from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.live import LiveStream
from blocks_worker.streams.options import WriterOptions
from blocks_worker.streams.writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.streams.trouble import StreamError
    from blocks_worker.transports.base import Transport

ENTROPY = Entropy()
AGENT = "speaker"


class AllGranted:
    """Grant everything, and remember what is held."""

    def __init__(self) -> None:
        self.held: list[tuple[str, str]] = []

    def want(self, new: StreamName) -> GrantedStream:
        """Grant it; one that is held already is held once."""
        self.drop(new.task_id, new.stream_id)
        self.held.append((new.task_id, new.stream_id))
        return GrantedStream(task_id=new.task_id, stream_id=new.stream_id, channel=f"stream.{AGENT}.{new.stream_id}")

    def drop(self, task_id: str, stream_id: str) -> None:
        """Hold it no more."""
        if (task_id, stream_id) in self.held:
            self.held.remove((task_id, stream_id))

    def rename(self, stream_id: str, old: str, new: str) -> None:
        """Hold it for another task."""
        self.held[self.held.index((old, stream_id))] = (new, stream_id)


@dataclass
class Told:
    """What the callbacks of one stream were told."""

    errors: list[StreamError] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def categories(self) -> list[str]:
        """Return the categories of the errors, in order."""
        return [error.category for error in self.errors]


class Side:
    """Be one process: its exchange, and the streams it has open."""

    def __init__(self, open_transport: Callable[[], Transport], *, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.grants = AllGranted()
        self.exchange = StreamExchange(open_transport=open_transport, grants=self.grants, clock=self.clock)

    def open(
        self,
        stream_id: str = "t-1",
        *,
        agent: bool = False,
        form: Any = "events",
        writes: bool = False,
        reads: bool = False,
        position: int | None = None,
        options: WriterOptions | None = None,
        **more: Any,
    ) -> tuple[LiveStream, int]:
        """Open a stream; return it with the position before its first frame."""
        name = StreamName(task_id=more.pop("task_id", "t"), stream_id=stream_id)
        more.setdefault("patience", REORDER_TIMEOUT)

        def make(granted: GrantedStream) -> Endpoint:
            sender = ENTROPY.name(8)
            writer = None
            if writes:
                writer = StreamWriter(
                    stream_id=stream_id,
                    sender=sender,
                    form=form,
                    options=options or WriterOptions(),
                    kick=lambda: self.exchange.kick(endpoint),
                    clock=self.clock,
                    name=lambda: ENTROPY.name(8),
                )
            endpoint = Endpoint(
                identity=StreamIdentity(name.task_id, stream_id, granted.channel),
                is_agent=agent,
                form=form,
                name=sender,
                clock=self.clock,
                kick=self.exchange.kick,
                writer=writer,
                reads=reads,
                **more,
            )
            return endpoint

        opened = self.exchange.open(name, make, position=position)
        live = LiveStream(opened.endpoint, call=self.exchange.callbacks.call, leave=self.exchange.leave)
        return live, opened.position

    def writer(self, stream_id: str = "t-1", **more: Any) -> tuple[LiveStream, int]:
        """Open the agent's writing side."""
        return self.open(stream_id, agent=True, writes=True, **more)

    def reader(self, of: LiveStream, position: int | None, **more: Any) -> LiveStream:
        """Open the consumer's reading side of an agent's stream."""
        more = {"form": of.endpoint.form, "only": of.uuid, **more}
        return self.open(of.stream_id, reads=True, position=position, **more)[0]

    def close(self) -> None:
        """End everything."""
        self.exchange.close(Deadline(20))


def listen(stream: LiveStream) -> Told:
    """Note what a stream's callbacks are told."""
    told = Told()
    stream.on_error(told.errors.append)
    stream.on_end(told.ended.set)
    return told


def in_background(work: Callable[[], Any]) -> Callable[[float], Any]:
    """Do something on a thread of its own; return what waits for its result."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result(timeout: float = 60.0) -> Any:
        thread.join(timeout)
        assert not thread.is_alive(), "it is still at work"
        return found[0]

    return result
