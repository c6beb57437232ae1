"""All streams of one process: one connection of their own, so that no flood of data ever delays a control message."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blocks_worker.concurrency import Deadline, ServiceThread
from blocks_worker.errors import TransportClosedError
from blocks_worker.streams.callbacks import StreamCallbacks
from blocks_worker.streams.publishes import Publishes
from blocks_worker.transports.base import Link, Message, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.streams import GrantedStream, StreamName
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.trouble import Category
    from blocks_worker.transports.base import Received, Subscription, Transport

_logger = logging.getLogger(__name__)

#: Streams that one process may have open at once: their grant travels with each request. For one more, one that has
#: ended goes before its time.
MOST_STREAMS = 64
#: Seconds for the network to tell its position.
POSITION_TIMEOUT = 10.0
#: Seconds for which an ended stream still answers readers that miss something, and for one that only read to say so.
LINGER = 10.0
FAREWELL = 2.0
#: Seconds after which a sender that always has something to send looks what else is due.
LOOK = 0.05
#: Seconds until what failed as nobody expects is tried again.
AGAIN = 0.1
#: Seconds for the connection of a process that forgot its streams to close.
CLOSING = 2.0
#: Longest single wait of the threads, in seconds.
_LOOK = 1.0
#: What a standing of the network is to the owner of a stream.
_LINKS: Mapping[Link, Category] = {
    Link.CONNECTED: "connected",
    Link.RECOVERED: "reconnected",
    Link.RETRYING: "network_issues",
    Link.FAILED: "network_down",
}
_THERE = frozenset({Link.CONNECTED, Link.RECOVERED})


class StreamGrants(Protocol):
    """Hold the right to use streams: one grant for all that this process has open."""

    def want(self, new: StreamName) -> GrantedStream:
        """Have the grant cover one more.

        Raises:
            RpcError: the hub refused it: its task is over, or is not this process's.
            HubUnavailableError: it does not answer.
        """

    def drop(self, task_id: str, stream_id: str) -> None:
        """Let the next grant cover this one no more."""

    def rename(self, stream_id: str, old: str, new: str) -> None:
        """Have a stream for another task from the next grant on."""


class Opened(NamedTuple):
    """Be a stream that was opened here: the network's position before its first frame, and what the hub granted."""

    endpoint: Endpoint
    position: int
    granted: GrantedStream


@dataclass
class _Open:
    """One stream that is open here."""

    endpoint: Endpoint
    #: Where to read from.
    position: int
    #: When it goes, once it has ended.
    leaves_at: float | None = None


class StreamExchange:
    """Own the transport for streams, made with the first one, and two threads.

    1. "stream-reader" takes what comes and routes it by its channel.
    2. "stream-sender" publishes what endpoints have to say, in turn; what gathers meanwhile goes together.

    Both are daemons: one is blocked in a queue that foreign code feeds, the other in foreign code, and a client
    that was forgotten keeps no process alive. After `stop` the reader closes the connection.
    One that `is_alone` stops with its last stream. `carries_bytes`: its transport takes frames that are not JSON.
    """

    def __init__(
        self,
        *,
        open_transport: Callable[[], Transport],
        grants: StreamGrants,
        clock: Clock,
        is_alone: bool = False,
        carries_bytes: bool = False,
    ) -> None:
        self._open_transport = open_transport
        self._is_alone, self.carries_bytes = is_alone, carries_bytes
        self._grants = grants
        self._clock = clock
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._opening = threading.Lock()
        self._listening = threading.Lock()
        self._open: dict[Endpoint, _Open] = {}
        self._by_channel: dict[str, list[Endpoint]] = {}
        self._ready: deque[Endpoint] = deque()
        self._queued: set[Endpoint] = set()
        self._transport: Transport | None = None
        self._publishes: Publishes | None = None
        self._subscription: Subscription | None = None
        self._reader = ServiceThread("stream-reader", self._read, daemon=True)
        self._sender = ServiceThread("stream-sender", self._send, daemon=True)
        self._stopping = False
        #: When the sender looks what is due, though it finds no rest.
        self._looks_at = 0.0
        #: Where users' callbacks run.
        self.callbacks = StreamCallbacks()

    # ------------------------------------------------------------ for the owner

    def open(self, name: StreamName, make: Callable[[GrantedStream], Endpoint], *, position: int | None) -> Opened:
        """Open a stream: what was said on its channel after this position is read, what it says is sent.

        Without a position it is read from here.

        Raises:
            RuntimeError: too many are open, or the process is on its way out.
            RpcError, HubUnavailableError: the hub did not grant it.
            TransportError: the network does not tell its position.
        """
        with self._opening:
            self._make_room()
            granted = self._grants.want(name)
            try:
                endpoint, position = self._begin(make(granted), position)
            except BaseException:
                self._grants.drop(name.task_id, name.stream_id)
                raise
        self.kick(endpoint)
        return Opened(endpoint, position, granted)

    def position(self) -> int | None:
        """Return the network's position before whatever is published from now on; None while nothing is open.

        Raises:
            TransportError: the network does not tell.
        """
        return None if self._transport is None else self._transport.position(Deadline(POSITION_TIMEOUT, self._clock))

    def endpoints(self) -> list[Endpoint]:
        """Return what is open."""
        with self._lock:
            return list(self._open)

    def kick(self, endpoint: Endpoint) -> None:
        """Have the sender ask this endpoint what it has to say."""
        with self._lock:
            if endpoint in self._open and endpoint not in self._queued:
                self._queued.add(endpoint)
                self._ready.append(endpoint)
                self._work.notify()

    def rename(self, endpoint: Endpoint, task_id: str) -> None:
        """Have a stream for another task: the one it was opened for is over, and it goes on."""
        old = endpoint.identity
        self._grants.rename(old.stream_id, old.task_id, task_id)
        endpoint.identity = replace(old, task_id=task_id)

    def leave(self, endpoint: Endpoint) -> None:
        """Let an endpoint go once it has said its last, and answered late readers for a while."""
        with self._lock:
            opened = self._open.get(endpoint)
            if opened is not None and opened.leaves_at is None:
                opened.leaves_at = self._clock.monotonic() + (LINGER if endpoint.writer is not None else FAREWELL)
                self._work.notify()

    def stop(self) -> None:
        """End all streams and have the threads end, without waiting for them."""
        for endpoint in self.endpoints():
            endpoint.close()
        with self._lock:
            self._stopping = True
            self._work.notify_all()

    def close(self, deadline: Deadline) -> None:
        """End all streams at once, then the threads and the connection."""
        self.stop()
        # Who opens one now waits for the hub at most; it finds that nothing is opened any more.
        transport = self._transport
        if transport is not None:
            self._sender.join(deadline.within(1.0))
            transport.close(deadline)
            self._sender.join(deadline.remaining())
            self._reader.join(deadline.remaining())
        self.callbacks.stop()

    # ------------------------------------------------------------ opening

    def _make_room(self) -> None:
        """Let go of what has ended, when there would be no room else."""
        with self._lock:
            ended = sorted((one.leaves_at, each) for each, one in self._open.items() if one.leaves_at is not None)
            goes = [ended[0][1]] if len(self._open) >= MOST_STREAMS and ended else []
            full = len(self._open) - len(goes) >= MOST_STREAMS
        if self._stopping:
            raise RuntimeError("no stream can be opened any more: this process is on its way out")
        if full:
            raise RuntimeError(f"{MOST_STREAMS} streams are open in this process: end some first")
        self._remove(goes)

    def _begin(self, endpoint: Endpoint, position: int | None) -> tuple[Endpoint, int]:
        if self._transport is None:
            self._transport = self._open_transport()
            self._publishes = Publishes(self._transport, kick=self.kick, clock=self._clock)
        if position is None:
            position = self._transport.position(Deadline(POSITION_TIMEOUT, self._clock))
        with self._lock:
            self._open[endpoint] = _Open(endpoint, position)
            self._by_channel.setdefault(endpoint.read_channel, []).append(endpoint)
        try:
            self._listen(self._transport)
        except BaseException:
            self._remove([endpoint])
            raise
        return endpoint, position

    def _listen(self, transport: Transport) -> None:
        """Read the channels of all that is open; a new one from its own position."""
        with self._listening:
            with self._lock:
                since = {one.endpoint.read_channel: one.position for one in self._open.values()}
            if self._subscription is not None:
                self._subscription.set_channels(since, since=since)
                return
            self._subscription = transport.subscribe(since, since=since)
            self._reader.start()
            self._sender.start()

    def _remove(self, gone: list[Endpoint]) -> None:
        with self._lock:
            gone = [endpoint for endpoint in gone if endpoint in self._open]
            for endpoint in gone:
                del self._open[endpoint]
                self._queued.discard(endpoint)
                self._by_channel[endpoint.read_channel].remove(endpoint)
                if not self._by_channel[endpoint.read_channel]:
                    del self._by_channel[endpoint.read_channel]
            # Another reader of the same stream may be here, under the same grant.
            kept = {each.identity.key for each in self._open}
        for key in {each.identity.key for each in gone} - kept:
            self._grants.drop(*key)

    # ------------------------------------------------------------ the thread that reads

    def _read(self) -> None:
        subscription, transport = self._subscription, self._transport
        if subscription is None or transport is None:
            return
        while not self._stopping:
            try:
                received = subscription.receive(_LOOK)
            except TransportClosedError:
                return
            for item in received:
                try:
                    self._route(item)
                except Exception:  # the top of a thread: one bad message must not leave every stream deaf
                    _logger.exception("stream_route_failed")
        # Nobody may be there to close what was forgotten.
        self._sender.join(CLOSING)
        transport.close(Deadline(CLOSING, self._clock))

    def _route(self, item: Received) -> None:
        if isinstance(item, Message):
            for endpoint in self._of(item.channel):
                endpoint.take(item.body)
        elif isinstance(item, Status):
            self._tell(item)
        elif not item.filled:
            # The numbers of the frames show what is missing, and the writer is asked for it.
            _logger.debug("stream_gap", extra={"channel": item.channel})

    def _of(self, channel: str) -> list[Endpoint]:
        with self._lock:
            return list(self._by_channel.get(channel, ()))

    def _tell(self, status: Status) -> None:
        category = _LINKS.get(status.link)
        if category is None:
            for channel in status.channels:
                for endpoint in self._of(channel):
                    endpoint.fail("access_denied", status.detail or "the network refused this channel")
            return
        for endpoint in self.endpoints():
            endpoint.link(there=status.link in _THERE)
            if not endpoint.is_over:
                endpoint.fail(category, status.detail or status.link.value)

    # ------------------------------------------------------------ the thread that sends

    def _send(self) -> None:
        publishes = self._publishes
        if publishes is None:
            return
        while self._ready or publishes.are_underway or not self._stopping:
            endpoint = self._next(waits=not publishes.are_underway)
            try:
                publishes.settle(waits=endpoint is None)
                if endpoint is not None:
                    publishes.begin(endpoint)
            except TransportClosedError:
                return
            except Exception:  # the top of a thread: one stream's trouble is not the others'
                _logger.exception("stream_send_failed")
                self._put_back(endpoint)
            if endpoint is None or self._clock.monotonic() >= self._looks_at:
                self._look()

    def _next(self, *, waits: bool) -> Endpoint | None:
        """Return an endpoint that has something to say, if need be wait for one, or until one is due."""
        with self._lock:
            if not self._ready and not self._stopping and waits:
                self._work.wait(self._patience())
            if not self._ready:
                return None
            endpoint = self._ready.popleft()
            self._queued.discard(endpoint)
            return endpoint

    def _put_back(self, endpoint: Endpoint | None) -> None:
        """Have it asked again, after a pause: what failed, for it or for another, may fail for long."""
        if endpoint is not None:
            self.kick(endpoint)
        with self._lock:
            self._work.wait(AGAIN)

    def _patience(self) -> float:
        now = self._clock.monotonic()
        due = min((endpoint.due() for endpoint in self._open), default=now + _LOOK)
        return max(0.0, min(due - now, _LOOK))

    def _look(self) -> None:
        now = self._clock.monotonic()
        self._looks_at = now + LOOK
        for endpoint in self.endpoints():
            if endpoint.due() <= now:
                endpoint.look()
                self.kick(endpoint)
        self._let_go(now)

    def _let_go(self, now: float) -> None:
        """Read no longer what has ended and lingered."""
        with self._lock:
            gone = [each for each, one in self._open.items() if one.leaves_at is not None and now >= one.leaves_at]
        if gone and self._transport is not None:
            self._remove(gone)
            self._stopping = self._stopping or (self._is_alone and not self._open)
            if not self._stopping:
                self._listen(self._transport)
