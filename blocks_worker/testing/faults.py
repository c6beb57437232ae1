"""What a test may have go wrong in its stack, by name: on the real hub, network and workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.hub.hub import Hub
    from blocks_worker.hub.network.faults import Faults

#: Longest delay in seconds: a poll that takes longer counts as broken, which is another fault.
MOST_DELAY = 5.0


class StackFaults:
    """Have things go wrong: each ``with`` block is one fault, which is over when the block ends.

    Faults of different kinds may hold at the same time. What can be done to the stack is handed over.
    """

    def __init__(
        self,
        *,
        hub: Callable[[], Hub],
        cut: Callable[[], None],
        restore: Callable[[], None],
        stop_hub: Callable[[], None],
        start_hub: Callable[[], None],
        replace_worker: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._cut = cut
        self._restore = restore
        self._stop_hub = stop_hub
        self._start_hub = start_hub
        self._replace_worker = replace_worker

    @contextmanager
    def network_cut(self) -> Iterator[None]:
        """Have the local network refuse every connection; the hub stays."""
        self._cut()
        try:
            yield
        finally:
            self._restore()

    @contextmanager
    def messages_lost(self) -> Iterator[None]:
        """Have the network take messages and deliver none; its history has them, for whoever misses one and asks."""
        with self._played("swallow"):
            yield

    @contextmanager
    def messages_late(self, seconds: float) -> Iterator[None]:
        """Have messages come so many seconds late, at most 5.

        Raises:
            ValueError: the seconds are not between 0 and 5.
        """
        if not 0 < seconds <= MOST_DELAY:
            raise ValueError(f"a delay of {seconds} s: it is above 0 and at most {MOST_DELAY:g} seconds")
        with self._played("delay", "subscribe", seconds=seconds):
            yield

    @contextmanager
    def hub_unavailable(self) -> Iterator[None]:
        """Have the hub answer every call with 503; the network stays."""
        hub = self._hub()
        hub.turn_away(everybody=True)
        try:
            yield
        finally:
            hub.turn_away(everybody=False)

    @contextmanager
    def hub_stopped(self) -> Iterator[None]:
        """Have no hub, and no network either; both are started again at the same address, with the same ledger."""
        self._stop_hub()
        try:
            yield
        finally:
            self._start_hub()

    def kill_worker(self, agent: str) -> None:
        """Have an agent's worker die with its leases, and another start under its name; what ran runs again.

        Its handlers are told to stop, for a thread cannot be killed; nobody hears what they still do.

        Raises:
            KeyError: the stack has no such agent.
        """
        self._replace_worker(agent)

    @contextmanager
    def _played(self, kind: str, match: str = "", **how: Any) -> Iterator[None]:
        hub = self._hub()

        async def begin(faults: Faults) -> Any:
            return faults.add(kind, match, count=None, **how)

        fault = hub.play(begin)

        async def end(faults: Faults) -> None:
            faults.remove(fault)

        try:
            yield
        finally:
            if hub.is_alive():  # a hub that was started again has no faults
                hub.play(end)
