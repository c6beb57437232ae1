"""What tests share: waiting for a condition, a loop on a thread of its own, a clock and a chance to command."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from blocks_worker.concurrency import Clock, Entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Self

Result = TypeVar("Result")

#: Seconds between two looks of `wait_until`.
_LOOK = 0.005


#: Seconds that it waits where nothing else is said: what comes late on a busy machine is not wrong.
_PATIENCE = 30.0


def wait_until(predicate: Callable[[], Any], timeout: float = _PATIENCE, what: str = "") -> Any:
    """Look until the predicate is true and return what it said; fail after `timeout` seconds."""
    pause = threading.Event()
    end = time.monotonic() + timeout
    while True:
        # Before the look: who was held up between the two looks again.
        is_last = time.monotonic() >= end
        found = predicate()
        if found:
            return found
        assert not is_last, f"not within {timeout} s: {what or predicate}"
        pause.wait(_LOOK)


class LoopThread:
    """Run an asyncio loop on a thread; used as a context manager, it ends with the block."""

    def __init__(self, name: str = "test-loop") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, Result], timeout: float = 30.0) -> Result:
        """Run a coroutine on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def call(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Call a plain function on the loop's thread and return what it returns."""

        async def called() -> Result:
            return function(*args, **options)

        return self.run(called())

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            # Connections that were cut last hear of their end on the next turns, and are closed with that.
            self.loop.run_until_complete(asyncio.sleep(0.01))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


class FakeClock(Clock):
    """Tell the time that the test set; both clocks go on only when told to."""

    def __init__(self, *, monotonic: float = 1_000.0, wall_ms: int = 1_700_000_000_000) -> None:
        self._monotonic = monotonic
        self._wall_ms = wall_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)

    def set_wall(self, wall_ms: int) -> None:
        """Set the wall clock as an operator would; the monotonic one goes on."""
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        """Return the seconds that passed."""
        return self._monotonic

    def wall_ms(self) -> int:
        """Return unix milliseconds."""
        return self._wall_ms

    def wall_ticks(self) -> int:
        """Return unix time in steps of 100 ns."""
        return self._wall_ms * 10_000


class SeededEntropy(Entropy):
    """Draw the same each time."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def uuid7(self, wall_ms: int) -> str:
        """Return an id that sorts by time."""
        value = f"{(wall_ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | 0b10 << 62 | self._random.getrandbits(62):032x}"
        return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"

    def token(self, size: int = 32) -> str:
        """Return text."""
        return self.name(size)

    def name(self, size: int = 16) -> str:
        """Return hexadecimal digits."""
        return self.bytes(size).hex()

    def bytes(self, size: int = 32) -> bytes:
        """Return bytes."""
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two."""
        return self._random.uniform(low, high)

    def below(self, bound: int) -> int:
        """Return a whole number."""
        return self._random.randrange(bound)
