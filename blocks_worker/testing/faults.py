"""What a test may have go wrong in its stack, by name: on the real hub, network and workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.testing.ground import Ground

#: Longest delay in seconds: a poll that takes longer counts as broken, which is another fault.
MOST_DELAY = 5.0


class StackFaults:
    """Have things go wrong: each ``with`` block is one fault, which is over when the block ends.

    Faults may hold at the same time, of one kind too: one is over with the last block that has it. A hub that is
    started again meanwhile has them as well. What a block leaves behind that outlives its stack changes nothing.
    """

    def __init__(self, ground: Ground, replace_worker: Callable[[str], None]) -> None:
        self._ground = ground
        self._replace_worker = replace_worker

    @contextmanager
    def network_cut(self) -> Iterator[None]:
        """Have the local network refuse every connection; the hub stays."""
        with self._ground.held("cut"):
            yield

    @contextmanager
    def messages_lost(self) -> Iterator[None]:
        """Have the network take messages and deliver none; its history has them, for whoever misses one and asks."""
        with self._ground.played("swallow"):
            yield

    @contextmanager
    def messages_late(self, seconds: float) -> Iterator[None]:
        """Have messages come so many seconds late, at most 5.

        Raises:
            ValueError: the seconds are not between 0 and 5.
        """
        if not 0 < seconds <= MOST_DELAY:
            raise ValueError(f"a delay of {seconds} s: it is above 0 and at most {MOST_DELAY:g} seconds")
        with self._ground.played("delay", "subscribe", seconds=seconds):
            yield

    @contextmanager
    def hub_unavailable(self) -> Iterator[None]:
        """Have the hub answer every call with 503; the network stays."""
        with self._ground.held("unavailable"):
            yield

    @contextmanager
    def hub_stopped(self) -> Iterator[None]:
        """Have no hub, and no network either; both are started again at the same address, with the same ledger."""
        with self._ground.held("stopped"):
            yield

    def kill_worker(self, agent: str) -> None:
        """Have an agent's worker die with its leases, and another start under its name; what ran runs again.

        Its handlers are told to stop, for a thread cannot be killed; nobody hears what they still do. While another
        fault has the hub answer nobody, the worker is dead until that is over.

        Raises:
            KeyError: the stack has no such agent.
        """
        self._replace_worker(agent)
