"""The streams of a worker: one connection for all of them, what runs share, and who uses which."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.sides import make_side
from blocks_worker.worker.run_streams import RunStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.protocol.declared import DeclaredStream
    from blocks_worker.protocol.events import EventBody
    from blocks_worker.protocol.streams import GrantedStream, StreamName
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.streams.exchange import Opened, StreamExchange
    from blocks_worker.streams.options import WriterOptions
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.stream_checks import StreamChecks
    from blocks_worker.worker.stream_rules import ChosenStream


@dataclass
class _Shared:
    """A stream of this process, and how many runs use it."""

    opened: Opened
    asked: tuple[Any, ...]
    users: set[str] = field(default_factory=set)


class WorkerStreams:
    """Own the exchange, made with the first stream, the thread for callbacks, and what runs share.

    Args:
        open_exchange: makes the exchange once the worker is connected.
        declared: what the card declares.
        checks: what declared streams may carry.
        failed: told of a run whose stream was failed, and why.
    """

    def __init__(
        self,
        *,
        open_exchange: Callable[[], StreamExchange],
        hand_out: Callable[[StreamName], GrantedStream],
        declared: Mapping[str, DeclaredStream],
        checks: StreamChecks,
        failed: Callable[[Run, str], None],
        options: WriterOptions,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.declared = declared
        self.hand_out = hand_out
        self.checks = checks
        self.clock = clock
        self._options = options
        self._entropy = entropy
        self._failed = failed
        self._open_exchange = open_exchange
        self._lock = threading.Lock()
        #: Held while a shared stream is opened: who wants the same waits for it.
        self._sharing = threading.Lock()
        self._exchange: StreamExchange | None = None
        self._shared: dict[str, _Shared] = {}
        self._runs: dict[Run, RunStreams] = {}

    @property
    def active(self) -> int:
        """How many streams are open."""
        exchange = self._exchange
        return sum(not each.is_over for each in exchange.endpoints()) if exchange is not None else 0

    def exchange(self) -> StreamExchange:
        """Return the exchange, made with its first use."""
        with self._lock:
            if self._exchange is None:
                self._exchange = self._open_exchange()
            return self._exchange

    def open(self, chosen: ChosenStream, name: StreamName, bundle: int | None) -> Opened:
        """Open a stream of this process, or of one task.

        Raises:
            RuntimeError: too many are open.
            RpcError, HubUnavailableError, TransportError: hub or network did not let us.
        """
        exchange = self.exchange()
        return exchange.open(
            name, lambda granted: self._endpoint(exchange, chosen, name, granted, bundle), position=None
        )

    def of(self, run: Run, task: StartTaskMessage, emit: Callable[[EventBody], None]) -> RunStreams:
        """Return the streams of a run, made for who asks first: a run that can open none has none."""
        with self._lock:
            streams = self._runs.get(run) or RunStreams(self, run, task, emit)
            has_ended = run.ending is not None
            if not has_ended:
                self._runs[run] = streams
        if has_ended:  # nobody would let go of them any more
            streams.drop()
        return streams

    def end(self, run: Run, timeout: float | None = None) -> None:
        """End what a run has open, with what was written on its way; `timeout`: seconds for that, if not the usual."""
        with self._lock:
            streams = self._runs.get(run)
        if streams is not None:
            streams.end() if timeout is None else streams.end(timeout)

    def ended(self, run: Run) -> None:
        """End what a run has open, without waiting: its task is over for this worker."""
        with self._lock:
            streams = self._runs.pop(run, None)
        if streams is not None:
            streams.drop()

    def share(self, key: str, user: str, asked: tuple[Any, ...], make: Callable[[], Opened]) -> Opened:
        """Return the process's stream of this name for one more run.

        Raises:
            ValueError: it was opened with other arguments.
        """
        shared = self._joined(key, user, asked)
        if shared is None:
            with self._sharing:
                shared = self._joined(key, user, asked)
                if shared is None:
                    shared = _Shared(make(), asked, {user})
                    with self._lock:
                        self._shared[key] = shared
        return shared.opened

    def release(self, key: str, user: str) -> None:
        """Let one run go; with the last the stream is closed."""
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                return
            shared.users.discard(user)
            heir = next(iter(shared.users), None)
            if heir is None:
                del self._shared[key]
        endpoint = shared.opened.endpoint
        if heir is None:
            endpoint.close()
            self.leave(endpoint)
        elif endpoint.identity.task_id == user:  # the hub grants it to tasks that run
            self.exchange().rename(endpoint, heir)

    def fail(self, stream_id: str, reason: str) -> bool:
        """End a stream for a reason, and with it every run that uses it; tell whether there was one."""
        with self._lock:
            users = [(run, streams) for run, streams in self._runs.items() if streams.has(stream_id)]
            self._shared.pop(stream_id, None)
        for run, streams in users:
            streams.fail(stream_id, reason)
            self._failed(run, reason)
        return bool(users)

    def leave(self, endpoint: Endpoint) -> None:
        """Let go of an endpoint once it has said its last."""
        if self._exchange is not None:
            self._exchange.leave(endpoint)

    def close(self, deadline: Deadline) -> None:
        """End all streams and the exchange."""
        if self._exchange is not None:
            self._exchange.close(deadline)

    def _joined(self, key: str, user: str, asked: tuple[Any, ...]) -> _Shared | None:
        """Have one more run use what is open; None when nothing is."""
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                return None
            if shared.asked != asked:
                raise ValueError(f"the shared stream {key!r} is open with other arguments: {shared.asked}, not {asked}")
            shared.users.add(user)
            return shared

    def _endpoint(
        self,
        exchange: StreamExchange,
        chosen: ChosenStream,
        name: StreamName,
        granted: GrantedStream,
        bundle: int | None,
    ) -> Endpoint:
        options = replace(self._options, bundle_bytes=bundle or self._options.bundle_bytes, ends=not chosen.is_shared)
        return make_side(
            exchange,
            StreamIdentity(name.task_id, name.stream_id, granted.channel),
            direction=chosen.direction,
            form=chosen.format,
            options=options,
            clock=self.clock,
            entropy=self._entropy,
            is_agent=True,
            check=self.checks.incoming(chosen.declared),
        )
