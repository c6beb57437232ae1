"""What tests share: waiting for a condition, and a loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Self

Result = TypeVar("Result")

#: Seconds between two looks of `wait_until`.
_LOOK = 0.005


def wait_until(predicate: Callable[[], Any], timeout: float = 5.0, what: str = "") -> Any:
    """Look until the predicate is true and return what it said; fail after `timeout` seconds."""
    pause = threading.Event()
    for _ in range(max(1, round(timeout / _LOOK))):
        found = predicate()
        if found:
            return found
        pause.wait(_LOOK)
    raise AssertionError(f"not within {timeout} s: {what or predicate}")


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
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
