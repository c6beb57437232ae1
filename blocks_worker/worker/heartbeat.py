"""The heartbeat: says what is held, and does what the answer says; one exchange renews every lease."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker import __version__
from blocks_worker.protocol.leases import Heartbeat
from blocks_worker.worker.nonces import Nonces

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.control import StartTask
    from blocks_worker.protocol.leases import HeartbeatAnswer, PauseFlag
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.ports import WorkApi
    from blocks_worker.worker.run import RunKey
    from blocks_worker.worker.running import Running
    from blocks_worker.worker.standing import Standing

_logger = logging.getLogger(__name__)

#: Seconds until a heartbeat counts as lost.
HEARTBEAT_TIMEOUT = 4.0


@dataclass(frozen=True)
class Orders:
    """Who does what a heartbeat's answer says.

    Attributes:
        rebuild: the bus seems deaf: make it anew.
    """

    offer: Callable[[StartTask], None]
    cancel: Callable[[RunKey, str | None], None]
    expire: Callable[[RunKey, str | None], None]
    pause: Callable[[PauseFlag], None]
    fence: Callable[[RunKey], None]
    drain: Callable[[], None]
    rebuild: Callable[[str], None]


class Beat:
    """Make single heartbeats, one at a time; when, and what if one fails, is its owner's affair."""

    def __init__(
        self,
        api: WorkApi,
        *,
        running: Running,
        standing: Standing,
        orders: Orders,
        clock: Clock,
        counters: Counters,
        active_streams: Callable[[], int] = int,
        is_strained: Callable[[], bool] = bool,
    ) -> None:
        self._api = api
        self._running = running
        self._standing = standing
        self._orders = orders
        self._clock = clock
        self._counters = counters
        self._active_streams = active_streams
        self._is_strained = is_strained
        self._lock = threading.Lock()
        self._nonces = Nonces()
        self.draining = False

    def heard(self, nonce: str) -> bool:
        """Take note of a nonce that came by the bus; tell whether it is the first since the last `restart`."""
        with self._lock:
            first = self._nonces.newest is None
            self._nonces.heard(nonce)
            return first

    @property
    def hears(self) -> bool:
        """Whether the bus is known to reach us."""
        with self._lock:
            return self._nonces.hears

    def starved(self) -> None:
        """Count that a heartbeat came late."""
        self._counters.count("heartbeats_starved")

    def restart(self) -> None:
        """Begin anew with the proof of the bus, as after a registration."""
        with self._lock:
            self._nonces.restart()

    def exchange(self) -> bool:
        """Make one heartbeat and obey its answer; tell whether the hub has our proof that the bus reaches us.

        Raises:
            RpcError, HubUnavailableError: as the hub's calls do.
        """
        begun = self._clock.monotonic()
        with self._lock:
            nonce = self._nonces.newest
        answer = self._api.heartbeat(self._message(nonce, stopped=False), timeout=HEARTBEAT_TIMEOUT)
        self._standing.trust.renewed(begun)
        self._standing.heard(answer.hub_time, begun)
        self._obey(answer)
        self._listen_for(answer.nonce)
        return nonce is not None

    def farewell(self, timeout: float) -> None:
        """Say that this was the last one.

        Raises:
            RpcError, HubUnavailableError: as the hub's calls do.
        """
        self._api.heartbeat(self._message(None, stopped=True), timeout=min(timeout, HEARTBEAT_TIMEOUT))

    def _message(self, nonce: str | None, *, stopped: bool) -> Heartbeat:
        degraded = self._is_strained()
        return Heartbeat(
            held=self._running.held_list(),
            free=0 if self.draining or degraded else self._running.free(),
            active_tasks=len(self._running.active_tasks()),
            active_streams=self._active_streams(),
            draining=self.draining,
            degraded=degraded,
            stopped=stopped,
            nonce=nonce,
            sdk_version=__version__,
        )

    def _obey(self, answer: HeartbeatAnswer) -> None:
        """Fence before anything is taken, so that an old run of a task is stopped before its new one starts."""
        for held in answer.fenced:
            self._orders.fence((held.task_id, held.epoch))
        for flag in answer.cancels:
            self._orders.cancel((flag.task_id, flag.epoch), flag.reason)
        for flag in answer.expires:
            self._orders.expire((flag.task_id, flag.epoch), flag.reason)
        for turn in answer.pauses:
            self._orders.pause(turn)
        if answer.drain:
            self._orders.drain()
        for offer in answer.offers:
            self._orders.offer(offer)

    def _listen_for(self, nonce: str) -> None:
        with self._lock:
            deaf = self._nonces.announced(nonce)
            if deaf:
                self._nonces.restart()
        if deaf:
            self._counters.count("transport_rebuilds")
            _logger.warning("transport_deaf", extra={"reason": "nonces"})
            self._orders.rebuild("three nonces in a row did not come")
