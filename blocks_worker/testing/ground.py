"""The hub that a stack stands on, and what goes wrong with it: each fault holds until nobody wants it any more."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.config import HubConfig
    from blocks_worker.hub.network.faults import Fault, Faults
    from blocks_worker.state import LocalHub

Kind = Literal["cut", "stopped", "unavailable"]

NOT_RUNNING = "the stack does not run: use it as 'with LocalStack(handler) as stack:'"
#: Seconds for the hub to close.
_CLOSING = 10.0


@dataclass(eq=False)
class _Played:
    """A fault of the network, and where it was added last."""

    kind: str
    match: str
    how: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None


class Ground:
    """Own a stack's hub, and have it be as the faults want it that hold.

    A fault is counted: it is over with the last block that has it. A hub that is started has all that hold. Once the
    ground was closed nothing begins, and what is left behind then changes nothing.

    Args:
        reached: called whenever a fault ended and the hub answers, or may.
    """

    def __init__(self, reached: Callable[[], None]) -> None:
        self._reached = reached
        #: Held while the hub is turned from one way of being into another.
        self._lock = threading.Lock()
        self._config: HubConfig | None = None
        self._hub: Hub | None = None
        self._held: Counter[Kind] = Counter()
        self._played: list[_Played] = []
        self._is_cut = False

    def open(self, config: Callable[[int], HubConfig]) -> LocalHub:
        """Start the hub at a free port, which it keeps; return where it is."""
        with self._lock:
            address = self._start(config(0))
            self._config = config(int(address.url.rpartition(":")[2]))
        return address

    def heal(self) -> None:
        """End all that holds, for workers and client to take their leave; a hub that was stopped is not started."""
        with self._lock:
            is_stopped = self._held["stopped"] > 0
            self._config = None
            self._held.clear()
            self._drop_played()
            if not is_stopped:
                self._settle()

    def close(self) -> None:
        """End the hub."""
        with self._lock:
            self._config = None
            self._stop()

    @property
    def answers(self) -> bool:
        """Whether calls are answered."""
        return self._hub is not None and not self._held["stopped"] and not self._held["unavailable"]

    @property
    def delivers(self) -> bool:
        """Whether what is published arrives."""
        return not self._held["cut"] and not any(each.kind == "swallow" for each in self._played)

    @contextmanager
    def held(self, kind: Kind) -> Iterator[None]:
        """Have a fault while the block lasts."""
        self.hold(kind)
        try:
            yield
        finally:
            self.let_go(kind)

    def hold(self, kind: Kind) -> None:
        """Begin a fault, or have one more who wants it."""
        with self._lock:
            self._check_open()
            self._held[kind] += 1
            try:
                self._settle()
            except BaseException:
                self._held[kind] -= 1
                raise

    def let_go(self, kind: Kind) -> None:
        """End a fault, unless somebody else wants it."""
        with self._lock:
            if self._config is None or not self._held[kind]:
                return
            self._held[kind] -= 1
            self._settle()
        self._reached()

    @contextmanager
    def played(self, kind: str, match: str = "", **how: Any) -> Iterator[None]:
        """Have the network play a fault of its own while the block lasts."""
        played = _Played(kind, match, how)
        with self._lock:
            self._check_open()
            self._played.append(played)
        try:
            with self._lock:
                self._settle()
            yield
        finally:
            self._end(played)

    def _end(self, played: _Played) -> None:
        with self._lock:
            if played not in self._played:
                return
            self._played.remove(played)
            self._remove(played)
        self._reached()

    def _check_open(self) -> None:
        if self._config is None:
            raise RuntimeError(NOT_RUNNING)

    # ------------------------------------------------------------ under the lock

    def _settle(self) -> None:
        """Bring the hub to what holds."""
        if self._held["stopped"]:
            self._stop()
            return
        hub = self._hub
        if hub is None:
            if self._config is not None:
                self._start(self._config)
            return
        hub.turn_away(everybody=self._held["unavailable"] > 0)
        if not hub.is_alive():  # its ledger failed: nothing can be done to its network
            return
        is_cut = self._held["cut"] > 0
        if is_cut is not self._is_cut:
            hub.play(lambda faults: faults.refuse() if is_cut else faults.accept())
            self._is_cut = is_cut
        for each in self._played:
            if each.fault is None:
                each.fault = hub.play(_adds(each))

    def _start(self, config: HubConfig) -> LocalHub:
        hub = Hub(config)
        hub.turn_away(everybody=self._held["unavailable"] > 0)
        address = hub.start()
        self._hub, self._is_cut = hub, False
        self._settle()
        return address

    def _stop(self) -> None:
        hub, self._hub = self._hub, None
        for each in self._played:
            each.fault = None
        if hub is not None:
            hub.stop(Deadline(_CLOSING))

    def _drop_played(self) -> None:
        played, self._played = self._played, []
        for each in played:
            self._remove(each)

    def _remove(self, played: _Played) -> None:
        fault, played.fault = played.fault, None
        if fault is not None and self._hub is not None and self._hub.is_alive():

            async def end(faults: Faults) -> None:
                faults.remove(fault)

            self._hub.play(end)


def _adds(played: _Played) -> Callable[[Faults], Any]:
    """Return what adds a fault until it is removed."""

    async def begin(faults: Faults) -> Fault:
        return faults.add(played.kind, played.match, count=None, **played.how)

    return begin
